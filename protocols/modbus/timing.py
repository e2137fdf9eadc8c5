"""How long things take on a Modbus serial line.

MODBUS over Serial Line V1.02, 2.5.1.1: a character has 11 bits; t1.5 and t3.5 follow from the baud
rate up to 19 200 and are fixed above.
"""

CHARACTER_BITS = 11
FIXED_ABOVE_BAUD = 19_200
T1_5_FIXED_S = 0.000_750
T3_5_FIXED_S = 0.001_750

RTU_OVERHEAD = 3  # unit and CRC around a PDU
TCP_OVERHEAD = 7  # MBAP header around a PDU


def character_s(baud: int) -> float:
    """Return the seconds of one character of 11 bits; 8N1 lines (10 bits) are a little faster."""
    return CHARACTER_BITS / baud


def t1_5_s(baud: int) -> float:
    """Return the longest silence within a frame."""
    return T1_5_FIXED_S if baud > FIXED_ABOVE_BAUD else 1.5 * character_s(baud)


def t3_5_s(baud: int) -> float:
    """Return the shortest silence between frames."""
    return T3_5_FIXED_S if baud > FIXED_ABOVE_BAUD else 3.5 * character_s(baud)


def transmission_s(length: int, baud: int) -> float:
    """Return the seconds that `length` characters take on the wire."""
    return length * character_s(baud)


def poll_s(request_length: int, reply_length: int, baud: int, *, unit_s: float) -> float:
    """Return the seconds of one poll: request, t3.5, the unit's own time, reply, t3.5.

    Lengths are those of the frames on the line; `unit_s` is what the unit takes to answer.
    """
    return transmission_s(request_length + reply_length, baud) + unit_s + 2 * t3_5_s(baud)
