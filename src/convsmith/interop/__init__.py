"""Networks from and to other worlds: ``interop.pytorch`` and ``interop.onnx``, each with ``read`` and ``write``.

Import the one that is wanted; ``interop.pytorch`` loads torch, ``interop.onnx`` does not.
"""
