"""Drivers: where engines meet ports, and libraries that bring their own input and output.

`DRIVERS` maps a configuration tag to the class that serves it. Only the drivers that a
configuration names are imported; to add one, write it beside the others and add its line here.
"""

DRIVERS: dict[str, str] = {
    "modbus-rtu": "protocols.drivers.modbus:ModbusDriver",
    "modbus-tcp": "protocols.drivers.modbus:ModbusDriver",
    "contact-id": "protocols.drivers.contact_id:ReceiverDriver",
    "gpio": "protocols.drivers.gpio:GpioDriver",
}
