"""One UDP datagram there and back, as a command to run inside a namespace.

  udp.py echo ADDRESS PORT                    answers every datagram with itself
  udp.py ask FROM PORT TO PORT SIZE [COUNT]   sends COUNT datagrams, each awaited; fails on a loss
"""

import socket
import sys


def echo(address, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, int(port)))
        print("ready", flush=True)
        while True:
            payload, sender = server.recvfrom(65535)
            server.sendto(payload, sender)


def ask(source, source_port, destination, port, size, count="1"):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((source, int(source_port)))
        client.connect((destination, int(port)))
        client.settimeout(3)
        for number in range(int(count)):
            payload = f"datagram {number} of the worked example ".encode().ljust(int(size), b".")
            client.send(payload)
            if client.recv(65535) != payload:
                sys.exit("the answer differs from the question")
    print(f"datagrams of {size} bytes, there and back: {count}")


if __name__ == "__main__":
    {"echo": echo, "ask": ask}[sys.argv[1]](*sys.argv[2:])
