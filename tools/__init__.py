"""Tools of the project: the pipeline that trains, exports and verifies the MNIST models."""
