"""UDP datagrams there and back, as commands to run inside a namespace.

  udp.py echo ADDRESS PORT                    answers every datagram with itself
  udp.py ask FROM PORT TO PORT SIZE [COUNT]   sends COUNT datagrams, each awaited; fails on a loss
  udp.py send FROM PORT TO PORT               sends one datagram and does not wait
  udp.py oversize ADDRESS PORT SIZE           awaits a datagram, answers with SIZE bytes that must
                                              not be fragmented, prints what path MTU it learns
"""

import socket
import sys
import time

# From <linux/in.h>; Python's socket module lacks them.
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU = 10, 2, 14


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


def send(source, source_port, destination, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((source, int(source_port)))
        client.sendto(b"question", (destination, int(port)))


def oversize(address, port, size):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, int(port)))
        server.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        print("ready", flush=True)
        _, sender = server.recvfrom(65535)
        server.connect(sender)
        server.send(b"." * int(size))
        time.sleep(0.5)
        print("path mtu", server.getsockopt(socket.IPPROTO_IP, IP_MTU), flush=True)


if __name__ == "__main__":
    commands = {"echo": echo, "ask": ask, "send": send, "oversize": oversize}
    commands[sys.argv[1]](*sys.argv[2:])
