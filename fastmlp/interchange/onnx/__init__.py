"""Networks as ONNX files, written and read without the onnx package."""
