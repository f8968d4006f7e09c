"""ristretto255, written from RFC 9496 alone. Slow and not constant-time: for reading test vectors, nothing else."""

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)


def _negative(x):
    return x % P & 1 == 1


def _absolute(x):
    return -x % P if _negative(x) else x % P


def _sqrt_ratio(u, v):
    """4.2: whether u/v is a square, and its non-negative root (or that of SQRT_M1 * u/v)."""
    r = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    check = v * r * r % P
    correct, flipped = check == u % P, check == -u % P
    flipped_i = check == -u * SQRT_M1 % P
    if flipped or flipped_i:
        r = r * SQRT_M1 % P
    return correct or flipped, _absolute(r)


# 4.1: the first is the root that 4.2 would call negative.
SQRT_AD_MINUS_ONE = 25063068953384623474111414158702152701244531502492656460079210482610430750235
INVSQRT_A_MINUS_D = 54469307008909316920995813868745141605393597292927456921205312896311721017578
ONE_MINUS_D_SQ = (1 - D * D) % P
D_MINUS_ONE_SQ = (D - 1) ** 2 % P


class Element:
    """An element, in extended coordinates (x, y, z, t) of one of its representatives."""

    def __init__(self, x, y, z, t):
        self.x, self.y, self.z, self.t = x % P, y % P, z % P, t % P

    def __eq__(self, other):
        # 4.5.
        return (self.x * other.y - self.y * other.x) % P == 0 or (self.y * other.y - self.x * other.x) % P == 0

    def __add__(self, other):
        # Hisil, Wong, Carter and Dawson, "Twisted Edwards Curves Revisited", 3.1 with a = -1: complete.
        a = (self.y - self.x) * (other.y - other.x)
        b = (self.y + self.x) * (other.y + other.x)
        c = 2 * D * self.t * other.t
        d = 2 * self.z * other.z
        e, f, g, h = b - a, d - c, d + c, b + a
        return Element(e * f, g * h, f * g, e * h)

    def __rmul__(self, scalar):
        result, addend = IDENTITY, self
        while scalar:
            if scalar & 1:
                result = result + addend
            addend = addend + addend
            scalar >>= 1
        return result

    def encode(self):
        """4.3.2."""
        u1 = (self.z + self.y) * (self.z - self.y)
        u2 = self.x * self.y
        _, inverse = _sqrt_ratio(1, u1 * u2 * u2 % P)
        den1, den2 = inverse * u1, inverse * u2
        z_inverse = den1 * den2 * self.t
        x, y, den = self.x, self.y, den2
        if _negative(self.t * z_inverse):
            x, y, den = self.y * SQRT_M1, self.x * SQRT_M1, den1 * INVSQRT_A_MINUS_D
        if _negative(x * z_inverse):
            y = -y
        return _absolute(den * (self.z - y)).to_bytes(32, "little")


IDENTITY = Element(0, 1, 1, 0)


def decode(data):
    """4.3.1: the element, or None for bytes that are not an encoding."""
    s = int.from_bytes(data, "little")
    if len(data) != 32 or s >= P or _negative(s):
        return None
    ss = s * s % P
    u1, u2 = 1 - ss, 1 + ss
    v = (-D * u1 * u1 - u2 * u2) % P
    square, inverse = _sqrt_ratio(1, v * u2 * u2 % P)
    den_x = inverse * u2 % P
    den_y = inverse * den_x * v % P
    x = _absolute(2 * s * den_x)
    y = u1 * den_y % P
    t = x * y % P
    if not square or _negative(t) or y == 0:
        return None
    return Element(x, y, 1, t)


def _map(data):
    """4.3.4, MAP."""
    t = int.from_bytes(data, "little") % 2**255
    r = SQRT_M1 * t * t % P
    u = (r + 1) * ONE_MINUS_D_SQ
    v = (-1 - r * D) * (r + D) % P
    square, s = _sqrt_ratio(u % P, v)
    c = P - 1
    if not square:
        s, c = -_absolute(s * t) % P, r
    n = c * (r - 1) * D_MINUS_ONE_SQ - v
    w0, w1 = 2 * s * v, n * SQRT_AD_MINUS_ONE
    w2, w3 = 1 - s * s, 1 + s * s
    return Element(w0 * w3, w2 * w1, w1 * w3, w0 * w2)


def from_uniform(data):
    """4.3.4: the element of 64 uniform bytes."""
    return _map(data[:32]) + _map(data[32:])


BASE = decode(bytes.fromhex("e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76"))
