"""How good a model's answers are, how sure that is, and whether it may follow the one served.

Everything here is a plain function of arrays; asking the models is `pipeline.beam.evaluation`.
"""
