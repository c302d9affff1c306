"""A small operator with a known matrix, so that iterations have a closed form."""

from recon.operators import LinearOperator


class Dense(LinearOperator):
    """A matrix as an operator on images, with its rows as views."""

    def __init__(self, matrix, shape):
        self.matrix, self.shape, self.nonnegative = matrix, shape, bool((matrix >= 0).all())

    @property
    def geometry(self):
        return range(len(self.matrix))

    @property
    def domain_shape(self):
        return self.shape

    @property
    def range_shape(self):
        return (len(self.matrix),)

    def _forward(self, x):
        return x.flatten(1) @ self.matrix.T.to(x)

    def _adjoint(self, y):
        return (y @ self.matrix.to(y)).reshape(-1, *self.shape)

    def __getitem__(self, views):
        return Dense(self.matrix[views], self.shape)
