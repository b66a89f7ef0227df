"""Functions of the generated C, of one number and of a vector of them, each written once.

The two versions come from one text, in which F is the type of the numbers, I that of their bits, and @ the end of the
names: `1` for one number, `v` for a vector. All are right on every finite float32, and NaN stays NaN. Bounds:

    exp     relative 2e-7; infinity above 88.72, gradual underflow below -87.33
    log     relative 2e-7, absolute 1e-7 near 1
    sigmoid absolute 2e-7          tanh    absolute 2e-7, relative 4e-7 near 0
    erf     absolute 2e-7          softplus, elu: absolute 2e-7 times 1 or the number itself, whichever is larger
    conductance  w / (1 + 2^t), relative to w 2.5e-7

2^f on [-1/2, 1/2] is a polynomial of degree 5 (minimax, relative 7.5e-8), or (E + h) / (E - h) with E = f^2 + 25.04 and
h = 8.678 f (relative 4.4e-7), which shares its division with what it is used in. There E + h lies between 16 and 32,
and its exponent can be raised by each whole number below 124. 2^f - 1 has a polynomial of its own, so that tanh is
accurate near 0. Rounding is done by adding 1.5 2^23, whose low bits are then the exponent, or by an instruction for it.
"""

from __future__ import annotations

__all__ = ["scalar", "vector"]

_EACH = """
INLINE F smallest@(F limit, F x) { return pick@(less@(limit, x), limit, x); }
INLINE F largest@(F limit, F x) { return pick@(less@(x, limit), limit, x); }
INLINE F at_most@(float limit, F x) { return smallest@(all@(limit), x); }
INLINE F at_least@(float limit, F x) { return largest@(all@(limit), x); }

/* 2^t for t within -126 and 127, and infinity at 128 */
INLINE F two_to@(F t) {
    const F n = t + 12582912.0f, f = t - (n - 12582912.0f);
    F p = f * 0.00132764725f + 0.00967554096f;
    p = p * f + 0.0555071309f;
    p = p * f + 0.240221202f;
    p = p * f + 0.693146944f;
    p = p * f + 1.00000012f;
    return p * power@(bits@(n)); /* a product, and no sum of exponents, so that NaN stays NaN whatever its bits */
}

/* 2^t - 1 for t within -126 and 126, accurate near 0 */
INLINE F two_to_less_one@(F t) {
    const F n = t + 12582912.0f, f = t - (n - 12582912.0f), s = power@(bits@(n));
    F q = f * 0.000154035122f + 0.00133907353f;
    q = q * f + 0.00961823761f;
    q = q * f + 0.0555035733f;
    q = q * f + 0.240226492f;
    q = q * f + 0.693147182f;
    return s * (q * f) + (s - 1.0f);
}

/* 1 / (1 + 2^t): the sigmoid of x for t = -x log2 e */
INLINE F gate@(F t) { return 1.0f / (two_to@(at_most@(128.0f, at_least@(-126.0f, t))) + 1.0f); }

/* the tanh of x for t = 2 x log2 e */
INLINE F bend@(F t) {
    const F m = two_to_less_one@(at_most@(64.0f, at_least@(-64.0f, t)));
    return m / (m + 2.0f);
}

INLINE F sigmoid@(F x) { return gate@(x * -1.44269504f); }
INLINE F tanh@(F x) { return bend@(x * 2.88539008f); }
INLINE F relu@(F x) { return at_least@(0.0f, x); }
INLINE F silu@(F x) { return x * sigmoid@(x); }

INLINE F exp@(F given) {
    const F x = at_most@(89.0f, at_least@(-104.0f, given)), n = x * 1.44269504f + 12582912.0f, k = n - 12582912.0f;
    const F r = x - k * 0.693359375f - k * -2.12194440e-4f;
    const I whole = bits@(n) - 0x4b400000, half = whole >> 1;
    F p = r * 1.98756915e-4f + 1.39819995e-3f;
    p = p * r + 8.33345191e-3f;
    p = p * r + 4.16657959e-2f;
    p = p * r + 1.66666655e-1f;
    p = p * r + 5.00000012e-1f;
    p = p * (r * r) + r + 1.0f;
    return p * power@(half) * power@(whole - half);
}

INLINE F erf@(F x) {
    const F t = at_most@(4.0f, value@(bits@(x) & 0x7fffffff)), s = t * t;
    F near = s * -5.96761703e-4f + 4.99119423e-3f, far, tail;
    near = near * s - 2.67681349e-2f;
    near = near * s + 1.12819925e-1f;
    near = near * s - 3.76125336e-1f;
    near = near * s + 1.28379166e-1f;
    near = near * t + t;
    far = t * -1.72853470e-5f + 3.83197126e-4f;
    tail = t * -3.88396438e-3f + 2.42546219e-2f;
    far = far * s + tail;
    far = far * t - 1.06777877e-1f;
    far = far * t - 6.34846687e-1f;
    far = far * t - 1.28717512e-1f;
    far = 1.0f - exp@(far * t - t);
    return value@(bits@(pick@(less@(all@(0.927734375f), t), far, near)) | (bits@(x) & (-0x7fffffff - 1)));
}

INLINE F gelu@(F x) { return x * 0.5f * (erf@(x * 0.707106781f) + 1.0f); }

/* 1 / (a + 2^t): the conductance of a synapse for a = 1 / w and log2 a in t, or for a = 1; near: t from -126 to 123 */
INLINE F conductance_near@(F t, F a) {
    const F n = whole@(t), f = rest@(t, n), e = f * f + 25.0391064f, h = f * 8.67783928f, c = e - h;
    return c / (a * c + raised@(e + h, n));
}

INLINE F conductance@(F t, F a) { return conductance_near@(at_most@(123.0f, at_least@(-126.0f, t)), a); }

/* two at a time, step by step: each step waits some cycles for the one before */
INLINE void two_rests_near@(F t, F u, F *n, F *m, F *f, F *g) {
    *n = whole@(t), *m = whole@(u);
    *f = rest@(t, *n), *g = rest@(u, *m);
}

INLINE void two_terms@(F n, F m, F f, F g, F a, F b, F *c, F *d, F *x, F *y, int permuted) {
    const F e = f * f + 25.0391064f, i = g * g + 25.0391064f, p = f * 8.67783928f, q = g * 8.67783928f;
    const F h = permuted ? apart@(p) : p, k = permuted ? apart@(q) : q;
    *c = e - h, *d = i - k;
    *x = a * *c + raised@(e + h, n);
    *y = b * *d + raised@(i + k, m);
}

INLINE void two_conductances_near@(F t, F a, F u, F b, F *g, F *h, int permuted) {
    F n, m, f, k, c, d, x, y;
    two_rests_near@(t, u, &n, &m, &f, &k);
    two_terms@(n, m, f, k, a, b, &c, &d, &x, &y, permuted);
    *g = c / x;
    *h = d / y;
}

INLINE void two_conductances@(F t, F a, F u, F b, F *g, F *h, int permuted) {
    t = at_most@(123.0f, at_least@(-126.0f, t));
    u = at_most@(123.0f, at_least@(-126.0f, u));
    two_conductances_near@(t, a, u, b, g, h, permuted);
}

INLINE void two_rests@(F t, F u, F *n, F *m, F *f, F *g) {
    t = at_most@(123.0f, at_least@(-126.0f, t));
    u = at_most@(123.0f, at_least@(-126.0f, u));
    two_rests_near@(t, u, n, m, f, g);
}

/* x where it is within limits, and else the limit; NaN stays NaN */
INLINE F within@(F x, F limit) { return smallest@(limit, largest@(-limit, x)); }
"""

_ONE = """
#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || defined(_M_FP_FAST)
#error "leave out -ffast-math, -Ofast and -funsafe-math-optimizations: what is rounded on purpose would come out wrong"
#elif defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "leave out -ffinite-math-only: it removes the checks that refuse NaN"
#endif
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline, unused))
#define CALLED static __attribute__((noinline, unused))
#define RESTRICT __restrict__
#else
#define INLINE static inline
#define CALLED static
#define RESTRICT
#endif
#define INLINE_ONCE static inline
typedef union { float number; int32_t bits; } both;
INLINE int32_t bits1(float x) { both b; b.number = x; return b.bits; }
INLINE float value1(int32_t i) { both b; b.bits = i; return b.number; }
INLINE int32_t less1(float a, float b) { return a < b; }
INLINE float pick1(int32_t mask, float a, float b) { return mask ? a : b; }
INLINE float all1(float x) { return x; }
INLINE float power1(int32_t n) { return value1((int32_t)(((uint32_t)n << 23) + 0x3f800000u)); }
INLINE float whole1(float t) { return t + 12582912.0f; }
INLINE float rest1(float t, float n) { return t - (n - 12582912.0f); }
INLINE float raised1(float x, float n) { return value1((int32_t)((uint32_t)bits1(x) + ((uint32_t)bits1(n) << 23))); }
INLINE float apart1(float x) { return x; }
INLINE float half1(const uint16_t *p, float scale) {
    const float size = value1((int32_t)(*p & 0x7fff) << 13) * scale;
    return *p & 0x8000 ? -size : size;
}
"""

_ONLY_ONE = """
INLINE float larger1(float a, float b) { return a != a || a > b ? a : b; }
INLINE float smaller1(float a, float b) { return a != a || a < b ? a : b; }

INLINE float log1(float given) {
    const int tiny = given < 1.17549435e-38f;
    const float x = tiny ? given * 8388608.0f : given;
    const int32_t i = bits1(x);
    const float m = value1((i & 0x007fffff) | 0x3f000000);
    const int low = m < 0.707106781f;
    const float e = (float)(((i >> 23) & 255) - 126 - low - (tiny ? 23 : 0));
    const float r = low ? m + m - 1.0f : m - 1.0f, z = r * r;
    float y = r * 7.0376836e-2f - 1.1514610e-1f;
    y = y * r + 1.1676998e-1f;
    y = y * r - 1.2420141e-1f;
    y = y * r + 1.4249323e-1f;
    y = y * r - 1.6668058e-1f;
    y = y * r + 2.0000714e-1f;
    y = y * r - 2.4999994e-1f;
    y = y * r + 3.3333331e-1f;
    y = y * r * z + e * -2.12194440e-4f - 0.5f * z;
    y = r + y + e * 0.693359375f;
    if (!(given > 0.0f)) return given < 0.0f ? given * 0.0f + (float)NAN : given == 0.0f ? -INFINITY : given;
    return given > 3.40282347e+38f ? given : y;
}

INLINE float softplus1(float x) {
    const float u = exp1(-fabsf(x)), w = u + 1.0f;
    return relu1(x) + (w == 1.0f ? u : log1(w) * (u / (w - 1.0f)));
}

INLINE float elu1(float x, float alpha) {
    return x > 0.0f ? x : alpha * two_to_less_one1(at_least1(-126.0f, x * 1.44269504f));
}

INLINE int is_finite(const float *p, size_t count) {
    int32_t bad = 0;
    size_t i;
    for (i = 0; i < count; ++i) bad |= (bits1(p[i]) & 0x7f800000) == 0x7f800000;
    return !bad;
}

INLINE void copy(float *to, const float *from, int count) {
    int i;
    for (i = 0; i < count; ++i) to[i] = from[i];
}

CALLED void copy_within(float *to, const float *from, int count, float limit) {
    int i;
    for (i = 0; i < count; ++i) to[i] = within1(from[i], limit);
}
"""

_VECTOR = """
#define LANES {lanes}
typedef float V __attribute__((vector_size({size})));
typedef int32_t VI __attribute__((vector_size({size})));
typedef uint32_t VW __attribute__((vector_size({size})));
typedef uint16_t VH __attribute__((vector_size({half})));
typedef float VU __attribute__((vector_size({size}), aligned(4), may_alias));
typedef int32_t VIU __attribute__((vector_size({size}), aligned(4), may_alias));
typedef uint16_t VHU __attribute__((vector_size({half}), aligned(2), may_alias));
/* built-in functions: the header of the intrinsics takes longer to read than all the rest */
#if defined(__AVX512F__) && LANES == 16
#define USE_AVX512
#if defined(__clang__)
#define smallest512(a, b) __builtin_ia32_minps512(a, b, 4)
#define largest512(a, b) __builtin_ia32_maxps512(a, b, 4)
#define permuted512(v, i) __builtin_ia32_permvarsf512(v, i)
#else
#define smallest512(a, b) __builtin_ia32_minps512_mask(a, b, a, (uint16_t)0xffff, 4)
#define largest512(a, b) __builtin_ia32_maxps512_mask(a, b, a, (uint16_t)0xffff, 4)
#define permuted512(v, i) __builtin_ia32_permvarsf512_mask(v, i, v, (uint16_t)0xffff)
#endif
#elif defined(__AVX2__) && LANES == 8
#define USE_AVX2
#endif
INLINE VI bitsv(V x) {{ return (VI)x; }}
INLINE V valuev(VI i) {{ return (V)i; }}
INLINE VI lessv(V a, V b) {{ return (VI)(a < b); }}
INLINE V pickv(VI mask, V a, V b) {{ return (V)(((VI)a & mask) | ((VI)b & ~mask)); }}
/* t as the nearest whole number n and a rest, and x 2^n where that is neither 0 nor infinite */
#if defined(USE_AVX2)
INLINE V wholev(V t) {{ return __builtin_ia32_roundps256(t, 8); }}
INLINE V restv(V t, V n) {{ return t - n; }}
INLINE V raisedv(V x, V n) {{ return (V)((VW)x + ((VW)__builtin_ia32_cvtps2dq256(n) << 23)); }}
#else
INLINE V wholev(V t) {{ return t + 12582912.0f; }}
INLINE V restv(V t, V n) {{ return t - (n - 12582912.0f); }}
INLINE V raisedv(V x, V n) {{ return (V)((VW)x + ((VW)n << 23)); }}
#endif
/* a product that is not made one with the sums it goes into: where permutations share the pipes that multiply */
INLINE V apartv(V x) {{
#if defined(USE_AVX2)
    __asm__("" : "+x"(x));
#endif
    return x;
}}
INLINE V powerv(VI n) {{ return (V)(((VW)n << 23) + 0x3f800000u); }}
INLINE V allv(float x) {{ const V y = {{{every}}}; return y; }} /* 0 + x takes longer: it makes 0 of -0 */
INLINE V get(const float *p) {{ return *(const VU *)p; }}
INLINE void put(float *p, V x) {{ *(VU *)p = x; }}
INLINE void put_part(float *p, V x, int count) {{
    int i;
    for (i = 0; i < count; ++i) p[i] = x[i];
}}
INLINE V get_half(const uint16_t *p, float scale) {{
    const VI b = __builtin_convertvector(*(const VHU *)p, VI);
    return (V)((VI)((V)((b & 0x7fff) << 13) * scale) | ((b & 0x8000) << 16));
}}
/* the numbers of x at i[0], i[1], ... */
INLINE V permuted(V x, const int32_t *i) {{
#if defined(USE_AVX512)
    return permuted512(x, *(const VIU *)i);
#elif defined(USE_AVX2)
    return __builtin_ia32_permvarsf256(x, *(const VIU *)i);
#else
    V y = {{0}};
    int k;
    for (k = 0; k < LANES; ++k) y[k] = x[i[k]];
    return y;
#endif
}}
/* whether a number of x is infinite or none: all bits of a lane, or no bit */
INLINE VI unusualv(V x) {{ return ((VI)x & 0x7f800000) == 0x7f800000; }}
INLINE int anyv(VI x) {{
#if defined(USE_AVX512)
    typedef float half __attribute__((vector_size({half}), may_alias));
    const half *part = (const half *)&x;
    return __builtin_ia32_movmskps256(part[0]) | __builtin_ia32_movmskps256(part[1]);
#elif defined(USE_AVX2)
    return __builtin_ia32_movmskps256((V)x);
#else
    int k, found = 0;
    for (k = 0; k < LANES; ++k) found |= x[k];
    return found;
#endif
}}
INLINE int all_finite(const float *p, size_t count) {{
    VI bad = unusualv(allv(0.0f));
    size_t i;
    if (count < LANES) return is_finite(p, count);
    for (i = 0; i + LANES <= count; i += LANES) bad |= unusualv(get(p + i));
    if (count % LANES) bad |= unusualv(get(p + count - LANES));
    return !anyv(bad);
}}
/* the numbers at base[i[0]], base[i[1]], ...; all within one vector where there are eight or more lanes */
INLINE V pick_from(const float *base, const int32_t *i) {{
#if defined(USE_AVX512)
    return permuted512(get(base), *(const VIU *)i);
#elif defined(USE_AVX2)
    return __builtin_ia32_permvarsf256(apartv(get(base)), *(const VIU *)i); /* one that loads takes twice as long */
#else
    V x = {{0}};
    int k;
    for (k = 0; k < LANES; ++k) x[k] = base[i[k]];
    return x;
#endif
}}
"""

# `pick` would do as well; it takes three instructions where these have one, which keeps NaN in this order of operands.
_LIMITS = """
#if defined(USE_AVX512)
#define smallestv smallest512
#define largestv largest512
#elif defined(USE_AVX2)
#define smallestv __builtin_ia32_minps256
#define largestv __builtin_ia32_maxps256
#else
INLINE V smallestv(V limit, V x) { return pickv(lessv(limit, x), limit, x); }
INLINE V largestv(V limit, V x) { return pickv(lessv(x, limit), limit, x); }
#endif
INLINE V at_mostv(float limit, V x) { return smallestv(allv(limit), x); }
INLINE V at_leastv(float limit, V x) { return largestv(allv(limit), x); }
"""

_NO_VECTOR = """
#define LANES 1
typedef float V;
typedef int32_t VI;
INLINE V allv(float x) { return x; }
INLINE V get(const float *p) { return *p; }
INLINE void put(float *p, V x) { *p = x; }
INLINE V get_half(const uint16_t *p, float scale) { return half1(p, scale); }
INLINE V pick_from(const float *base, const int32_t *i) { return base[*i]; }
#define gatev gate1
#define bendv bend1
#define tanhv tanh1
#define sigmoidv sigmoid1
#define reluv relu1
#define siluv silu1
#define geluv gelu1
#define expv exp1
#define bitsv bits1
#define valuev value1
#define conductancev conductance1
#define conductance_nearv conductance_near1
#define two_conductancesv two_conductances1
#define two_conductances_nearv two_conductances_near1
#define withinv within1
#define all_finite is_finite
INLINE int32_t unusualv(float x) { return (bits1(x) & 0x7f800000) == 0x7f800000; }
INLINE int anyv(int32_t x) { return x; }
INLINE float permuted(float x, const int32_t *i) { (void)i; return x; }
"""


def _for(kind: str, bits: str, end: str, text: str) -> str:
    return text.replace("F ", f"{kind} ").replace("I ", f"{bits} ").replace("@", end)


_SCALAR = _ONE + _for("float", "int32_t", "1", _EACH) + _ONLY_ONE


def scalar(lanes: int) -> str:
    """The functions of one number; without vectors memory for code is short, so the compiler chooses what to call."""
    return _SCALAR if lanes > 1 else _SCALAR.replace("always_inline, unused", "unused")


def vector(lanes: int) -> str:
    """The vectors of a target, and the functions on them; with one lane the functions of one number by other names."""
    if lanes == 1:
        return _NO_VECTOR
    text = _for("V", "VI", "v", _EACH[_EACH.index("/* 2^t for") :])
    return _VECTOR.format(lanes=lanes, size=4 * lanes, half=2 * lanes, every=", ".join("x" * lanes)) + _LIMITS + text
