"use strict";
/* A network that is trained on the page, and all that was seen of it. */
const MOST_RECORDS = 400;

class Experiment {
  /** Draws a network of these settings; the seed decides its weights. */
  constructor(settings, seed = settings.seed) {
    const { inputs, targets } = DATA.tasks[settings.task];
    this.settings = settings;
    this.features = inputs[0].length;
    this.x = Float64Array.from(inputs.flat());
    this.targets = Float64Array.from(targets);
    this.net = drawNetwork(settings, this.features, generator(seed));
    this.memory = begin(this.net);
    this.step = 0;
    this.every = 1;
    this.records = [];
    this.look();
    this.start = this.now;
    this.strongest = Math.max(...this.seen.gradients.kernels.map((g) => g.reduce((m, v) => Math.max(m, Math.abs(v)), 0)));
    this.record();
  }

  get finite() { return Number.isFinite(this.seen.loss); }

  get solved() { return this.seen.accuracy > 1 - 1e-9; }

  get passes() { return this.now.delta.some((v) => v > 0); }

  look() {
    this.seen = see(this.settings, this.net, this.x, this.targets);
    this.now = measured(this.settings, this.seen);
  }

  record() {
    this.records.push({ step: this.step, loss: this.seen.loss, accuracy: this.seen.accuracy, delta: this.now.delta });
    if (this.records.length > MOST_RECORDS) {
      this.records = this.records.filter((_, i) => i % 2 === 0);
      this.every *= 2;
    }
  }

  /** One step of training; what is drawn of it is measured where it is recorded, or asked for by `look`. */
  advance() {
    update(this.settings, this.net, this.memory, this.seen.gradients);
    this.seen = see(this.settings, this.net, this.x, this.targets);
    this.step += 1;
    if (this.step % this.every === 0) { this.now = measured(this.settings, this.seen); this.record(); }
  }

  /** What mean field expects, and what other draws show, as many as take no time. */
  compare() {
    const { settings, features, x, targets } = this;
    this.expected = theory(settings, features, x.reduce((sum, v) => sum + v * v, 0) / x.length);
    const cost = settings.depth * settings.width ** 2 * targets.length, normal = generator(settings.seed + 1000);
    const count = Math.max(2, Math.min(11, Math.floor(2e6 / cost)));
    this.others = Array.from({ length: count }, () => measured(settings, see(settings, drawNetwork(settings, features, normal), x, targets)));
  }

  /** The word of WORDS for how it fares. */
  get state() {
    const { delta } = this.now, top = delta.at(-1);
    if (!this.finite) return "diverged";
    if (this.solved) return this.passes ? "solved" : "solved_above";
    if (!this.passes) return "no_gradient";
    if (Math.max(...delta) > DATA.exploding * top) return "exploding";
    if (delta[0] < DATA.vanishing * top) return "vanishing";
    return this.step >= 500 && this.seen.loss > 0.95 * this.records[0].loss ? "stuck" : "learning";
  }
}

/** The median of twenty values and its interval: the 6th and the 15th, which hold it with 95.9 %. */
function medianOfTwenty(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return { middle: (sorted[9] + sorted[10]) / 2, low: sorted[5], high: sorted[14] };
}
