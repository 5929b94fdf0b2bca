"""Sends Ethernet frames as they are: one a line on standard input, in hexadecimal.

  inject.py DEVICE
"""

import socket
import sys
import time


def main(device):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((device, 0))
        for number, line in enumerate(sys.stdin):
            wire.send(bytes.fromhex(line))
            if number % 64 == 63:
                time.sleep(0.002)  # no faster than the other end's ring is emptied


if __name__ == "__main__":
    main(sys.argv[1])
