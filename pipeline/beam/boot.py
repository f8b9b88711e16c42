"""One Python worker of a cluster: `keras-resnet-worker`, which Beam's PROCESS environment starts.

It follows the container contract of Beam (Fn API, "SDK harness container contract"): it asks the
runner for the options of the job, and becomes Beam's own worker.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

# What Beam stages with every job, and nobody has to install: the list of what was installed there.
_KNOWN = "submission_environment_dependencies.txt"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Replaces this process by the worker that the arguments describe."""
    parser = argparse.ArgumentParser("keras-resnet-worker", description=__doc__)
    parser.add_argument("--id", required=True, help="Of the worker.")
    parser.add_argument("--provision_endpoint", metavar="HOST:PORT", required=True)
    # Where the runner does not say, its answer does.
    parser.add_argument("--logging_endpoint", metavar="HOST:PORT")
    parser.add_argument("--control_endpoint", metavar="HOST:PORT")
    given, _ = parser.parse_known_args(arguments)
    # Beam's worker would run what somebody has left below it.
    os.environ.pop("SEMI_PERSISTENT_DIRECTORY", None)
    os.environ |= _environment(given)
    # Whoever started this may not read what it prints, and a full pipe would stop it.
    os.dup2(2, 1)
    command = [sys.executable, "-m", "apache_beam.runners.worker.sdk_worker_main"]
    os.execv(sys.executable, command)


def _environment(given: argparse.Namespace) -> dict[str, str]:
    """Returns what Beam's worker reads from its environment."""
    import grpc
    from apache_beam.portability.api import beam_provision_api_pb2 as messages
    from apache_beam.portability.api import beam_provision_api_pb2_grpc as services
    from google.protobuf import json_format

    with grpc.insecure_channel(given.provision_endpoint) as channel:
        request = messages.GetProvisionInfoRequest()
        # By this the runner knows for which of its jobs the worker is.
        metadata = [("worker_id", given.id)]
        answer = services.ProvisionServiceStub(channel).GetProvisionInfo(request, metadata=metadata)
    info = answer.info
    if unknown := sorted(filter(None, map(_staged, info.dependencies))):
        print(
            f"worker {given.id}: does not install what was staged with the job "
            f"({', '.join(unknown)}); install it where the workers run",
            file=sys.stderr,
        )
    return {
        "WORKER_ID": given.id,
        "PIPELINE_OPTIONS": json.dumps(json_format.MessageToDict(info.pipeline_options)),
        "CONTROL_API_SERVICE_DESCRIPTOR": _url(given.control_endpoint or info.control_endpoint.url),
        "LOGGING_API_SERVICE_DESCRIPTOR": _url(given.logging_endpoint or info.logging_endpoint.url),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }


def _url(endpoint: str) -> str:
    """Returns an endpoint as Beam's worker expects it: a message as text."""
    return f'url: "{endpoint}"'


def _staged(artifact: object) -> str:
    """Returns the name of a file that was staged, or nothing for what needs no installation."""
    from apache_beam.portability.api import beam_runner_api_pb2 as messages

    found = messages.ArtifactStagingToRolePayload.FromString(artifact.role_payload)
    return "" if found.staged_name == _KNOWN else found.staged_name


if __name__ == "__main__":
    main()
