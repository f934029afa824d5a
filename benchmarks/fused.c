/* A yardstick: the straightforward fused loop. XOR, relu, full-batch gradient descent, the norm of
 * every layer's weight gradient at every step; one network per lane of a vector register, blocks of
 * LANES networks over threads. Prints the seconds of the training loop and the mean final loss.
 *   cc -O3 -march=native -ffast-math -fopenmp fused.c -o fused -lm
 *   ./fused RUNS DEPTH WIDTH STEPS
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LANES 16
#define EXAMPLES 4
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int mask __attribute__((vector_size(4 * LANES)));

static vec sigmoid(vec z) {
  vec y;
  for (int lane = 0; lane < LANES; lane++) y[lane] = 1.0f / (1.0f + expf(-z[lane]));
  return y;
}

/* x where z > 0, else 0. */
static vec where_positive(vec z, vec x) { return (vec)((mask)x & (z > 0)); }

static void store_root(float *to, vec squares) {
  for (int lane = 0; lane < LANES; lane++) to[lane] = sqrtf(squares[lane]);
}

static const float X[EXAMPLES][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}};
static const float T[EXAMPLES] = {0, 1, 1, 0};

/* Layer l of depth + 1 has inputs(l) x outputs(l) weights and outputs(l) biases. */
static int inputs(int l, int width) { return l == 0 ? 2 : width; }
static int outputs(int l, int depth, int width) { return l == depth ? 1 : width; }

static float train(int depth, int width, int steps, float rate, unsigned seed, float *norms) {
  int layers = depth + 1;
  vec **w = malloc(layers * sizeof *w), **b = malloc(layers * sizeof *b);
  vec **z = malloc(layers * sizeof *z), **h = malloc((layers + 1) * sizeof *h);
  for (int l = 0; l < layers; l++) {
    int in = inputs(l, width), out = outputs(l, depth, width);
    w[l] = aligned_alloc(64, in * out * sizeof(vec));
    b[l] = aligned_alloc(64, out * sizeof(vec));
    z[l] = aligned_alloc(64, EXAMPLES * out * sizeof(vec));
    h[l + 1] = aligned_alloc(64, EXAMPLES * out * sizeof(vec));
    for (int k = 0; k < in * out; k++)
      for (int lane = 0; lane < LANES; lane++)
        w[l][k][lane] = sqrtf(6.0f / in) * (2.0f * rand_r(&seed) / RAND_MAX - 1.0f);
    memset(b[l], 0, out * sizeof(vec));
  }
  h[0] = aligned_alloc(64, EXAMPLES * 2 * sizeof(vec));
  for (int e = 0; e < EXAMPLES; e++)
    for (int i = 0; i < 2; i++) h[0][e * 2 + i] = (vec){} + X[e][i];
  vec *delta = aligned_alloc(64, EXAMPLES * (width > 2 ? width : 2) * sizeof(vec));
  vec *below = aligned_alloc(64, EXAMPLES * (width > 2 ? width : 2) * sizeof(vec));
  float loss = 0;

  for (int step = 0; step < steps; step++) {
    for (int l = 0; l < layers; l++) {
      int in = inputs(l, width), out = outputs(l, depth, width);
      for (int e = 0; e < EXAMPLES; e++)
        for (int o = 0; o < out; o++) {
          vec sum = b[l][o];
          for (int i = 0; i < in; i++) sum += h[l][e * in + i] * w[l][i * out + o];
          z[l][e * out + o] = sum;
          h[l + 1][e * out + o] = l == depth ? sum : where_positive(sum, sum);
        }
    }
    for (int e = 0; e < EXAMPLES; e++) {
      vec y = sigmoid(z[depth][e]);
      delta[e] = (y - T[e]) / EXAMPLES;
      if (step == steps - 1)
        for (int lane = 0; lane < LANES; lane++)
          loss -= logf(1e-30f + (T[e] > 0.5f ? y[lane] : 1.0f - y[lane]));
    }
    for (int l = depth; l >= 0; l--) {
      int in = inputs(l, width), out = outputs(l, depth, width);
      if (l > 0)
        for (int e = 0; e < EXAMPLES; e++)
          for (int i = 0; i < in; i++) {
            vec sum = {};
            for (int o = 0; o < out; o++) sum += delta[e * out + o] * w[l][i * out + o];
            below[e * in + i] = where_positive(z[l - 1][e * in + i], sum);
          }
      vec squares = {};
      for (int i = 0; i < in; i++)
        for (int o = 0; o < out; o++) {
          vec g = {};
          for (int e = 0; e < EXAMPLES; e++) g += h[l][e * in + i] * delta[e * out + o];
          squares += g * g;
          w[l][i * out + o] -= rate * g;
        }
      for (int o = 0; o < out; o++) {
        vec g = {};
        for (int e = 0; e < EXAMPLES; e++) g += delta[e * out + o];
        b[l][o] -= rate * g;
      }
      store_root(norms + ((size_t)step * layers + l) * LANES, squares);
      vec *swap = delta;
      delta = below;
      below = swap;
    }
  }
  return loss / EXAMPLES / LANES;
}

int main(int count, char **words) {
  if (count != 5) return 2;
  int runs = atoi(words[1]), depth = atoi(words[2]), width = atoi(words[3]), steps = atoi(words[4]);
  int blocks = (runs + LANES - 1) / LANES;
  size_t recorded = (size_t)steps * (depth + 1) * LANES;
  float *norms = malloc(blocks * recorded * sizeof *norms);
  memset(norms, 0, blocks * recorded * sizeof *norms);
  struct timespec from, to;
  clock_gettime(CLOCK_MONOTONIC, &from);
  double loss = 0;
#pragma omp parallel for schedule(dynamic) reduction(+ : loss)
  for (int block = 0; block < blocks; block++)
    loss += train(depth, width, steps, 0.01f, block + 1, norms + block * recorded);
  clock_gettime(CLOCK_MONOTONIC, &to);
  double seconds = (to.tv_sec - from.tv_sec) + 1e-9 * (to.tv_nsec - from.tv_nsec);
  printf("%.6f %.6f\n", seconds, loss / blocks);
  return 0;
}
