"""The claims of the papers on residual learning, as experiments that anyone can run.

`python -m studies list` names them, `python -m studies run NAME` runs one. They need Keras, one
backend and `keras_resnet`; neither TensorFlow nor the pipeline.
"""
