"""How many bytes a process sends: a formula for each exchange, and the kernel's count.

N processes take part. A formula counts what one of them sends; it receives as much.
"""

import os
import socket
import stat
import struct
import time

from attnbook.check import expect, expect_sizes


def share(n, N, times=1):
    """times (N - 1) / N of n bytes, rounded up. Raises: ValueError if one is < 0."""
    expect(n >= 0, "n", n, "0 bytes or more")
    expect_sizes(N=N)
    return -(-times * (N - 1) * n // N)


def all_reduce_bytes(n, N):
    """Bytes that a process sends so that N processes have the sum of their n bytes.

    Around a ring: first each N-th part is summed on its way, then it is handed on.
    Args: n, bytes of the tensor, the same on each process; N, processes.
    Returns: int, 2 (N - 1) / N n. Raises: ValueError if N is not positive.
    Source: Patarasuk and Yuan 2009, Journal of Parallel and Distributed Computing 69.
    """
    return share(n, N, times=2)


def all_gather_bytes(n, N):
    """Bytes that a process sends so that all have the n bytes of each: (N - 1) n."""
    return share(N * n, N)


def reduce_scatter_bytes(n, N):
    """Bytes that a process sends so that each has an N-th of the sum: (N - 1) / N n."""
    return share(n, N)


def all_to_all_bytes(n, N):
    """Bytes that a process sends so that each has its N-th of all: (N - 1) / N n.

    Args: n, bytes of the tensor on one process; N, processes.
    """
    return share(n, N)


# --- attention ------------------------------------------------------------------------


def heads_bytes(B, T, C, N, itemsize=4):
    """Bytes that a process sends in a layer split by heads: forward, backward.

    One all-reduce of the output (B, T, C), and one of the gradient of the input.
    Args: B, texts; T, tokens (1 to decode); C, width of the model; N, processes;
    itemsize, bytes a number. Returns: (int, int). Gradients of copied weights (fewer
    key/value heads than processes, MLA's way down) are not in it.
    Source: Shoeybi et al. 2019, arXiv:1909.08053, section 3.
    """
    expect_sizes(B=B, T=T, C=C, N=N, itemsize=itemsize)
    one = all_reduce_bytes(B * T * C * itemsize, N)
    return one, one


def context_bytes(scheme, B, T, H, Hkv, D, N, itemsize=4):
    """Bytes that a process sends in a layer split by tokens: forward, backward.

    all-gather: keys and values of each to all; back, their gradients are summed.
    ring: keys and values go N - 1 steps; back, again, and their gradients go N.
    all-to-all: queries, keys, values to the owner of the head, the output back.
    Args: scheme, one of the three; B, texts; T, tokens of the whole text; H, Hkv, heads
    of queries and of keys; D, width of a head; N, processes; itemsize, bytes a number.
    Returns: (int, int). Raises: ValueError if N does not divide T, or, for all-to-all,
    if heads and N do not divide.
    Source: Liu et al. 2023, arXiv:2310.01889, section 3; Jacobs et al. 2023,
    arXiv:2309.14509, section 3.2.
    """
    expect_sizes(B=B, T=T, H=H, Hkv=Hkv, D=D, N=N, itemsize=itemsize)
    expect(T % N == 0, "T", T, f"a multiple of N = {N}")
    one = B * (T // N) * D * itemsize  # a head of the tokens of one process
    kv = 2 * Hkv * one
    if scheme == "all-gather":
        return (N - 1) * kv, (N - 1) * kv
    if scheme == "ring":
        return (N - 1) * kv, (N - 1) * kv + (N * kv if N > 1 else 0)
    expect(scheme == "all-to-all", "scheme", scheme, "all-gather, ring, all-to-all")
    stored = N * kept_heads(Hkv, N)  # copies included
    heads = [H, stored, stored, H]
    there_and_back = sum(all_to_all_bytes(h * one, N) for h in heads)
    return there_and_back, there_and_back


def merge_bytes(B, H, Dv, N, itemsize=4, all_heads=True):
    """Bytes that a process sends to decode one token with a cache split by tokens.

    Of each head it sends its partial output and one number, the log-sum-exp: to all
    others (all_heads), or only to the one process that goes on with that head.
    Args: B, texts; H, query heads; Dv, width of a value; N, processes; itemsize.
    Source: Bhatia et al. 2025, arXiv:2507.07120, section 2 (the latter).
    """
    expect_sizes(B=B, H=H, Dv=Dv, N=N, itemsize=itemsize)
    n = B * H * (Dv + 1) * itemsize
    return all_gather_bytes(n, N) if all_heads else all_to_all_bytes(n, N)


def kept_heads(Hkv, N):
    """Key/value heads that each of N processes keeps when a layer is split by heads.

    Raises: ValueError unless one of Hkv and N divides the other.
    """
    expect_sizes(Hkv=Hkv, N=N)
    fits = Hkv % N == 0 or N % Hkv == 0
    expect(fits, "Hkv", Hkv, f"a multiple or a divisor of the {N} processes")
    return max(Hkv // N, 1)


# --- what really went out -------------------------------------------------------------


def wire_bytes():
    """Bytes that this process has sent through its TCP connections so far.

    The kernel counts them for each connection; we ask it for all that are open. gloo
    sends through TCP, also within a machine; nccl does not, there. What is on its way
    is waited for until the count stands still, at most a second.
    Returns: int, or None where the kernel does not tell (it does on Linux).
    """
    before, count = -1, 0
    try:
        for _ in range(100):
            numbers = os.listdir("/proc/self/fd")
            count = sum(sent_through(int(number)) for number in numbers)
            if count == before:
                break
            before = count
            time.sleep(0.01)
    except (OSError, AttributeError, struct.error):
        return None
    return count


def sent_through(number):
    """Bytes given to an open file to send: 0 if it is not a TCP connection.

    Sent, less what had to be sent again, and what still waits in the kernel. The places
    are those of struct tcp_info in linux/tcp.h.
    """
    try:
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            return 0
        connection = socket.socket(fileno=os.dup(number))
    except OSError:  # closed meanwhile
        return 0
    with connection:
        internet = connection.family in (socket.AF_INET, socket.AF_INET6)
        if not internet or connection.type != socket.SOCK_STREAM:
            return 0
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 216)
    sent, again = struct.unpack_from("QQ", told, 200)
    return sent - again + struct.unpack_from("I", told, 144)[0]
