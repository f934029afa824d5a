"use strict";
/* Networks in the browser: drawn, seen and trained as fadeout does, in double precision. Arrays are flat: of an
 * example's units, row after row; a kernel has a row for each of its inputs. PHI, from Python, has the activations. */
const EPSILON = DATA.epsilon;

/** Random numbers that repeat (mulberry32), as a standard normal of two of them. */
function generator(seed) {
  let a = seed >>> 0;
  const uniform = () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

/** 1 - erf, by its series and its continued fraction. */
function erfc(x) {
  if (x < 0) return 2 - erfc(-x);
  if (x < 2.5) return 1 - erf(x);
  let below = 0;
  for (let k = 60; k > 0; k -= 1) below = k / 2 / (x + below);
  return Math.exp(-x * x) / ((x + below) * Math.sqrt(Math.PI));
}

function erf(x) {
  if (Math.abs(x) >= 2.5) return x < 0 ? erfc(-x) - 1 : 1 - erfc(x);
  let term = x, sum = x;
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n += 1) {
    term *= -x * x / n;
    sum += term / (2 * n + 1);
    if (n > 80) break;
  }
  return 2 * sum / Math.sqrt(Math.PI);
}

/** The variance of a kernel's weights, but for the gain; null where an activation has no edge of chaos. */
function kernelVariance(s, inputs, outputs) {
  const known = DATA.inits[s.init];
  const scale = known.scale === null ? DATA.activations[s.activation].critical : known.scale;
  if (scale === null) return null;
  return scale / { fan_in: inputs, fan_avg: (inputs + outputs) / 2, fixed: 1 }[known.fan];
}

function sizesOf(s, features) {
  return [features, ...Array(s.depth).fill(s.width), 1];
}

/** A network: kernels, biases, and the factors of residual branches where they are trained. */
function drawNetwork(s, features, normal) {
  const sizes = sizesOf(s, features), kernels = [], biases = [];
  for (let layer = 0; layer <= s.depth; layer += 1) {
    const deviation = s.gain * Math.sqrt(kernelVariance(s, sizes[layer], sizes[layer + 1]));
    kernels.push(Float64Array.from({ length: sizes[layer] * sizes[layer + 1] }, () => deviation && deviation * normal()));
    biases.push(new Float64Array(sizes[layer + 1]));
  }
  const factors = s.residual && s.scale === "zero" ? new Float64Array(s.depth) : null;
  return { sizes, kernels, biases, factors };
}

/** x @ kernel + bias. */
function weighted(x, kernel, bias, inputs, outputs) {
  const rows = x.length / inputs, sums = new Float64Array(rows * outputs);
  for (let e = 0; e < rows; e += 1) {
    const at = e * outputs;
    for (let o = 0; o < outputs; o += 1) sums[at + o] = bias[o];
    for (let i = 0; i < inputs; i += 1) {
      const v = x[e * inputs + i], from = i * outputs;
      if (v) for (let o = 0; o < outputs; o += 1) sums[at + o] += v * kernel[from + o];
      else if (v !== v) for (let o = 0; o < outputs; o += 1) sums[at + o] = NaN;
    }
  }
  return sums;
}

/** Divides what is normalised together: the units of an example, or the examples of a unit. */
function groupsOf(kind, rows, width) {
  return kind === "batch"
    ? { count: width, size: rows, at: (g, i) => i * width + g }
    : { count: rows, size: width, at: (g, i) => g * width + i };
}

function normalise(z, kind, width) {
  if (kind === "none") return { u: z };
  const u = new Float64Array(z.length), { count, size, at } = groupsOf(kind, z.length / width, width);
  const inverse = new Float64Array(count);
  for (let g = 0; g < count; g += 1) {
    let mean = 0, square = 0;
    if (kind !== "rms") for (let i = 0; i < size; i += 1) mean += z[at(g, i)] / size;
    for (let i = 0; i < size; i += 1) square += (z[at(g, i)] - mean) ** 2 / size;
    inverse[g] = 1 / Math.sqrt(square + EPSILON);
    for (let i = 0; i < size; i += 1) u[at(g, i)] = (z[at(g, i)] - mean) * inverse[g];
  }
  return { u, inverse };
}

/** dL/dz of dL/du. */
function throughNorm(back, { u, inverse }, kind, width) {
  if (kind === "none") return back;
  const delta = new Float64Array(u.length), { count, size, at } = groupsOf(kind, u.length / width, width);
  for (let g = 0; g < count; g += 1) {
    let along = 0, mean = 0;
    for (let i = 0; i < size; i += 1) {
      along += back[at(g, i)] * u[at(g, i)] / size;
      if (kind !== "rms") mean += back[at(g, i)] / size;
    }
    for (let i = 0; i < size; i += 1) delta[at(g, i)] = inverse[g] * (back[at(g, i)] - mean - u[at(g, i)] * along);
  }
  return delta;
}

/** The factor of residual branches, by which a trained one is multiplied: `networks.remedies.residual_factor`. */
function branchFactor(s) { return s.scale === "sqrt_depth" ? s.residual / Math.sqrt(s.depth) : s.residual; }

/** The factor of a layer's residual branch, and 0 where there is none. */
function branchOf(s, net, layer) {
  if (!s.residual || !layer) return 0;
  return s.scale === "zero" ? s.residual * net.factors[layer] : branchFactor(s);
}

/** The way up: what every hidden layer shows, and the outputs. */
function forward(s, net, x) {
  const layers = [];
  let below = x, inputs = net.sizes[0];
  for (let layer = 0; layer < s.depth; layer += 1) {
    const sums = weighted(below, net.kernels[layer], net.biases[layer], inputs, s.width);
    let z = sums;
    if (s.residual && layer) {
      const a = branchOf(s, net, layer), under = layers[layer - 1].z;
      z = sums.map((v, i) => under[i] + a * v);
    }
    const seen = normalise(z, s.normalization, s.width);
    const h = new Float64Array(z.length), slope = new Float64Array(z.length);
    PHI[s.activation](seen.u, h, slope);
    layers.push({ below, sums, z, ...seen, h, slope });
    below = h;
    inputs = s.width;
  }
  return { layers, output: weighted(below, net.kernels[s.depth], net.biases[s.depth], inputs, 1) };
}

/** The mean loss, the share of right answers and dL/d output. */
function judge(s, output, targets) {
  const n = targets.length, delta = new Float64Array(n);
  let loss = 0, right = 0;
  output.forEach((y, e) => {
    const t = targets[e];
    if (s.loss === "cross_entropy") {
      loss += (Math.max(y, 0) + Math.log1p(Math.exp(-Math.abs(y))) - t * y) / n;
      delta[e] = (1 / (1 + Math.exp(-y)) - t) / n;
    } else {
      loss += (y - t) ** 2 / n;
      delta[e] = 2 * (y - t) / n;
    }
    right += Number((y > (s.loss === "cross_entropy" ? 0 : 0.5)) === (t > 0.5) && Number.isFinite(y)) / n;
  });
  return { loss, accuracy: right, delta };
}

/** x^T @ delta, summed over examples. */
function outer(x, delta, inputs, outputs) {
  const gradient = new Float64Array(inputs * outputs), rows = delta.length / outputs;
  for (let e = 0; e < rows; e += 1)
    for (let i = 0; i < inputs; i += 1) {
      const v = x[e * inputs + i];
      for (let o = 0; o < outputs; o += 1) gradient[i * outputs + o] += v * delta[e * outputs + o];
    }
  return gradient;
}

function columnSums(delta, outputs) {
  const sums = new Float64Array(outputs);
  for (let i = 0; i < delta.length; i += 1) sums[i % outputs] += delta[i];
  return sums;
}

/** delta @ kernel^T. */
function down(delta, kernel, inputs, outputs) {
  const rows = delta.length / outputs, below = new Float64Array(rows * inputs);
  for (let e = 0; e < rows; e += 1)
    for (let i = 0; i < inputs; i += 1) {
      let sum = 0;
      for (let o = 0; o < outputs; o += 1) sum += delta[e * outputs + o] * kernel[i * outputs + o];
      below[e * inputs + i] = sum;
    }
  return below;
}

/** One look at a network: loss, signals, deltas and gradients. */
function see(s, net, x, targets) {
  const { layers, output } = forward(s, net, x), judged = judge(s, output, targets);
  const kernels = Array(s.depth + 1), biases = Array(s.depth + 1);
  const factors = net.factors && new Float64Array(s.depth);
  const top = layers[s.depth - 1];
  kernels[s.depth] = outer(top.h, judged.delta, s.width, 1);
  biases[s.depth] = columnSums(judged.delta, 1);
  let above = down(judged.delta, net.kernels[s.depth], s.width, 1), besides = null;
  for (let layer = s.depth - 1; layer >= 0; layer -= 1) {
    const own = layers[layer], inputs = layer ? s.width : net.sizes[0], back = above.map((v, i) => v * own.slope[i]);
    let delta = throughNorm(back, own, s.normalization, s.width);
    if (besides) { const other = besides; delta = delta.map((v, i) => v + other[i]); }
    own.delta = delta;
    let sent = delta;
    if (s.residual && layer) {
      const a = branchOf(s, net, layer);
      if (factors) factors[layer] = s.residual * delta.reduce((sum, v, i) => sum + v * own.sums[i], 0);
      sent = delta.map((v) => a * v);
      besides = delta;
    }
    kernels[layer] = outer(own.below, sent, inputs, s.width);
    biases[layer] = columnSums(sent, s.width);
    if (layer) above = down(sent, net.kernels[layer], s.width, s.width);
  }
  return { ...judged, output, layers, gradients: { kernels, biases, factors } };
}

function parametersOf(net) {
  return [...net.kernels, ...net.biases, ...(net.factors ? [net.factors] : [])];
}

/** An optimiser's memory. */
function begin(net) {
  return { count: 0, first: parametersOf(net).map((p) => new Float64Array(p.length)),
    second: parametersOf(net).map((p) => new Float64Array(p.length)) };
}

/** One step, in place; hyperparameters but the rate are fadeout's defaults. */
function update(s, net, memory, gradients) {
  const own = DATA.optimizers[s.optimizer], all = parametersOf(gradients);
  memory.count += 1;
  parametersOf(net).forEach((p, k) => {
    const g = all[k], m = memory.first[k], v = memory.second[k];
    for (let i = 0; i < p.length; i += 1) {
      if (s.optimizer === "sgd") p[i] -= s.rate * g[i];
      else if (s.optimizer === "momentum") {
        m[i] = g[i] + own.momentum * m[i];
        p[i] -= s.rate * m[i];
      } else {
        m[i] = own.b1 * m[i] + (1 - own.b1) * g[i];
        v[i] = own.b2 * v[i] + (1 - own.b2) * g[i] * g[i];
        const mean = m[i] / (1 - own.b1 ** memory.count), square = v[i] / (1 - own.b2 ** memory.count);
        p[i] -= s.rate * mean / (Math.sqrt(square) + own.eps);
      }
    }
  });
}

const rms = (values) => Math.sqrt(values.reduce((sum, v) => sum + v * v, 0) / values.length);
const norm = (values) => Math.sqrt(values.reduce((sum, v) => sum + v * v, 0));

/** Which units have no slope on any example. */
function deadUnits(slope, width) {
  const dead = new Uint8Array(width).fill(1);
  for (let i = 0; i < slope.length; i += 1) if (slope[i] !== 0) dead[i % width] = 0;
  return dead;
}

/** What is drawn of a look, by layer: the readout has the last place, and no unit that could be dead. */
function measured(s, seen) {
  const steep = DATA.activations[s.activation].steepest;
  return {
    delta: seen.layers.map((l) => norm(l.delta)),
    weights: seen.gradients.kernels.map(norm),
    signal: seen.layers.map((l) => rms(l.z)),
    saturated: seen.layers.map((l) => l.slope.filter((v) => Math.abs(v) <= DATA.flat * steep).length / l.slope.length),
    dead: seen.layers.map((l) => deadUnits(l.slope, s.width).reduce((a, b) => a + b) / s.width),
  };
}

/** E phi^2 and E phi'^2 of a normal input. */
function moments(activation, variance) {
  const z = new Float64Array(1600), h = new Float64Array(1600), slope = new Float64Array(1600);
  let square = 0, steep = 0, total = 0;
  for (let k = 0; k < 1600; k += 1) z[k] = Math.sqrt(variance) * (k - 799.5) / 100;
  PHI[activation](z, h, slope);
  for (let k = 0; k < 1600; k += 1) {
    const weight = Math.exp(-(((k - 799.5) / 100) ** 2) / 2);
    square += weight * h[k] ** 2;
    steep += weight * slope[k] ** 2;
    total += weight;
  }
  return { square: square / total, slope: steep / total };
}

/** Mean field: the size of every layer's z, and of delta, whose highest layer has 1. See `theory.profile`; of batch
 *  normalisation it knows nothing. */
function theory(s, features, size) {
  if (s.normalization === "batch") return null;
  const variance = s.gain ** 2 * kernelVariance(s, s.width, s.width) * s.width;
  const branch = !s.residual ? null : s.scale === "zero" ? 0 : branchFactor(s);
  const signal = [], gains = [];
  let q = s.gain ** 2 * features * size * kernelVariance(s, features, s.width);
  for (let layer = 0; layer < s.depth; layer += 1) {
    const normalised = s.normalization !== "none", known = moments(s.activation, normalised ? q / (q + EPSILON) : q);
    let grown = variance * known.square, gain = variance * known.slope / (normalised ? q + EPSILON : 1);
    if (branch !== null) [grown, gain] = [q + branch ** 2 * grown, 1 + branch ** 2 * gain];
    signal.push(Math.sqrt(q));
    gains.push(gain);
    q = grown;
  }
  const delta = Array(s.depth).fill(1);
  for (let layer = s.depth - 2; layer >= 0; layer -= 1) delta[layer] = delta[layer + 1] * Math.sqrt(gains[layer]);
  return { signal, delta };
}
