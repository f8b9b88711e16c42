"""The components, one file each: parameters, what they read and write, and one function `run`.

A component knows nothing of the graph. Its module offers

    OUTPUTS          output key -> artifact type
    Parameters       a frozen dataclass
    run(inputs, outputs, parameters, context) -> Outcome

and, where its result depends on something outside the graph, `external(parameters)`, whose value
becomes part of the cache key. TensorFlow and Beam are imported inside `run`, so that a run whose
results are all in the cache loads neither.
"""
