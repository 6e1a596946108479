"""Small networks on a CPU through OpenVINO."""
