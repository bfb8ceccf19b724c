"""The registers of the chip that its loaders let the host read and write: OTP, UART divider, and the SPI controller.

Promises that a flash command sent through the SPI registers ("user command") does to the flash what the real part
would do. A register that means nothing here keeps what was written to it.
"""

from station.bench.chip import ROM_BAUD, UART_CLOCK_HZ, Chip
from station.bench.flash import STATUS_WRITE_ENABLED

MAGIC_ADDRESS = 0x40001000
UART_CLKDIV = 0x60000014
UART_CLKDIV_MASK = 0xFFFFF
SPI_CMD = 0x60000200
SPI_ADDR = 0x60000204
SPI_USER = 0x6000021C
SPI_USER1 = 0x60000220
SPI_USER2 = 0x60000224
SPI_W0 = 0x60000240
SPI_W_WORDS = 16

CMD_USER = 1 << 18
USER_ADDRESS = 1 << 30
USER_MISO = 1 << 28
USER_MOSI = 1 << 27
WORD = 0xFFFFFFFF


class Registers:
    """The register file of one chip, from a reset on.

    `flash_attached` says whether the SPI pins are the flash's: after a reset into the loader they are not until
    FLASH_BEGIN or a stub makes them so, and the bus then reads as zeros.
    """

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        self._values: dict[int, int] = {UART_CLKDIV: UART_CLOCK_HZ // ROM_BAUD}
        self._write_enabled = False
        self.flash_attached = False

    @property
    def uart_divider(self) -> int:
        """What divides the UART's clock into its baud; at least 1."""
        return max(1, self._values[UART_CLKDIV] & UART_CLKDIV_MASK)

    @uart_divider.setter
    def uart_divider(self, divider: int) -> None:
        self._values[UART_CLKDIV] = max(1, divider)

    def read(self, address: int) -> int:
        """The 32-bit word at this address; 0 where nothing is."""
        if address == MAGIC_ADDRESS:
            return self._chip.magic
        if address in self._chip.otp:
            return self._chip.otp[address]
        return self._values.get(address, 0)

    def write(self, address: int, value: int, mask: int) -> float:
        """Change the bits under `mask`; returns the seconds that the flash works on what this started."""
        self._values[address] = (self._values.get(address, 0) & ~mask & WORD) | (value & mask)
        if address != SPI_CMD or not self._values[address] & CMD_USER:
            return 0.0
        self._values[address] &= ~CMD_USER
        return self._run_user_command()

    def _run_user_command(self) -> float:
        """Shift out command, address and data, shift in the answer; returns the seconds the flash works on it."""
        user, user1 = self.read(SPI_USER), self.read(SPI_USER1)
        address = 0
        if user & USER_ADDRESS:
            address = self.read(SPI_ADDR) >> (31 - (user1 >> 26))
        w_bytes = b"".join(self.read(SPI_W0 + 4 * n).to_bytes(4, "little") for n in range(SPI_W_WORDS))
        mosi = w_bytes[: ((user1 >> 17 & 0x1FF) + 8) // 8] if user & USER_MOSI else b""
        miso_bytes = ((user1 >> 8 & 0x1FF) + 8) // 8 if user & USER_MISO else 0
        if not self.flash_attached:
            miso, duration_s = b"", 0.0
        else:
            miso, duration_s = self._command(self.read(SPI_USER2) & 0xFF, address, mosi, miso_bytes)
        if miso_bytes:
            answer = miso[:miso_bytes].ljust(-(-miso_bytes // 4) * 4, b"\0")
            for n in range(0, len(answer), 4):
                self._values[SPI_W0 + n] = int.from_bytes(answer[n : n + 4], "little")
        return duration_s

    def _command(self, opcode: int, address: int, mosi: bytes, miso_bytes: int) -> tuple[bytes, float]:
        """One command on the flash's bus: its answer and the seconds it works."""
        flash = self._chip.flash
        if flash.dead:
            return bytes([flash.jedec_id & 0xFF]) * miso_bytes, 0.0
        answer = bytes(miso_bytes)
        match opcode:
            case 0x9F:
                answer = flash.jedec_id.to_bytes(3, "little")
            case 0x5A:
                answer = flash.sfdp(address, miso_bytes)
            case 0x05:
                answer = bytes([flash.status | (STATUS_WRITE_ENABLED if self._write_enabled else 0)])
            case 0x03:
                answer = flash.read(address, miso_bytes)
            case 0x06 | 0x50:
                self._write_enabled = True
            case 0x04:
                self._write_enabled = False
            case 0x01 | 0x02 | 0x20 | 0xD8 | 0xC7 | 0x60 if self._write_enabled:
                self._write_enabled = False
                return b"", self._change(opcode, address, mosi)
            case _:
                pass  # second status registers, resets, power-down and release: nothing that a loader could see
        return answer, 0.0

    def _change(self, opcode: int, address: int, mosi: bytes) -> float:
        """One command that needs the write-enable latch; returns the seconds it takes."""
        flash = self._chip.flash
        match opcode:
            case 0x01:
                flash.write_status(mosi[0] if mosi else 0)
                return 0.0
            case 0x02:
                return flash.program(address, mosi)
            case 0x20:
                return flash.erase_sector(address)
            case 0xD8:
                return flash.erase_block(address)
            case _:
                return flash.erase_chip()
