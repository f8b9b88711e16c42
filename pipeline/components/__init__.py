"""The components, one file each: parameters, what they read and write, and one function `run`.

A component knows nothing of the graph. Its module offers

    OUTPUTS          output key -> artifact type
    Parameters       a frozen dataclass
    run(inputs, outputs, parameters, context) -> Outcome

and may offer

    check(parameters)       raises UsageError before anything of the run is written
    external(parameters)    what its result depends on outside the graph; part of the cache key
    look_outside(inputs, parameters, name)
                            the same, where that depends on what the component reads; `run` finds it
                            in `context.outside`
    CACHEABLE = False       for a component whose effect lies outside the store
    RESUMABLE = True        for one that keeps in `context.state` what a killed execution has done,
                            and that several workers may execute together
    IMMATERIAL = ("workers",)
                            parameters that no result depends on: no part of the cache key
    attend(inputs, parameters, context)
                            what another machine does meanwhile, where that is not the same

TensorFlow and Beam are imported inside `run`, so that a run whose
results are all in the cache loads neither.
"""
