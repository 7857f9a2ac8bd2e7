// `Math.random` of a plugin: from the chunk's seed, so that every attempt at a chunk draws the same numbers.

/** xoshiro128** over four words that splitmix32 makes of the seed. */
export function generator(seed) {
  let mix = Number(BigInt.asUintN(32, seed ^ (seed >> 32n)));
  const word = () => {
    mix = (mix + 0x9e3779b9) | 0;
    let z = mix ^ (mix >>> 16);
    z = Math.imul(z, 0x21f0aaad);
    z ^= z >>> 15;
    z = Math.imul(z, 0x735a2d97);
    return z ^ (z >>> 15);
  };
  let [a, b, c, d] = [word(), word(), word(), word()];
  const next = () => {
    const five = Math.imul(b, 5);
    const result = Math.imul((five << 7) | (five >>> 25), 9) >>> 0;
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = (d << 11) | (d >>> 21);
    return result;
  };
  return () => (next() * 0x200000 + (next() >>> 11)) / 0x20000000000000;
}
