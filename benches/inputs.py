"""The inputs that every peer of benches/cpu.py is given: values of about unit size that each language can make."""

import numpy


def wave(shape, phase):
    """As `wave` of the Rust peer: sin(0.37 i + phase) scaled by a slower one, computed in f64."""
    i = numpy.arange(numpy.prod(shape), dtype=numpy.float64)
    return (1.4 * numpy.sin(0.37 * i + phase) * numpy.cos(0.0113 * i)).astype(numpy.float32).reshape(shape)
