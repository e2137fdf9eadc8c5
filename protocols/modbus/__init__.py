"""Modbus RTU and TCP: codec, bus owner, register maps, and a simulated bus. No input or output."""
