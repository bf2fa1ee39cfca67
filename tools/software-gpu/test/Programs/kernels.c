// Kernels of the programs of test/Programs. kernels.ptx is made of it:
//   clang-22 --target=nvptx64-nvidia-cuda -march=sm_80 -Xclang -target-feature -Xclang +ptx80 -O2 -ffp-contract=off -S kernels.c -o kernels.ptx
#define KERNEL __attribute__((nvptx_kernel))
#define GLOBAL __attribute__((address_space(1)))
#define SHARED __attribute__((address_space(3)))
#define TID __nvvm_read_ptx_sreg_tid_x()
#define TIDY __nvvm_read_ptx_sreg_tid_y()
#define BID __nvvm_read_ptx_sreg_ctaid_x()
#define BIDY __nvvm_read_ptx_sreg_ctaid_y()
#define DIM __nvvm_read_ptx_sreg_ntid_x()
#define GRID __nvvm_read_ptx_sreg_nctaid_x()
#define SYNC __nvvm_barrier_sync(0)

KERNEL void add(const float *a, const float *b, float *c, int n) {
  int i = BID * DIM + TID;
  if (i < n)
    c[i] = a[i] + b[i];
}
KERNEL void add_unbounded(const float *a, const float *b, float *c, int n) { // fault: no i < n
  int i = BID * DIM + TID;
  c[i] = a[i] + b[i];
}
KERNEL void scale(float *x, float by, int n) {
  int i = BID * DIM + TID;
  if (i < n)
    x[i] *= by;
}

static SHARED float partial[256];
KERNEL void reduce(const float *x, float *sums, int n) {
  float sum = 0;
  for (int i = BID * DIM + TID; i < n; i += DIM * GRID)
    sum += x[i];
  partial[TID] = sum;
  SYNC;
  for (int step = 128; step; step /= 2) {
    if (TID < step)
      partial[TID] += partial[TID + step];
    SYNC;
  }
  if (TID == 0)
    sums[BID] = partial[0];
}
KERNEL void reduce_unsynchronized(const float *x, float *sums, int n) { // fault: one barrier less
  float sum = 0;
  for (int i = BID * DIM + TID; i < n; i += DIM * GRID)
    sum += x[i];
  partial[TID] = sum;
  for (int step = 128; step; step /= 2) {
    SYNC;
    if (TID < step)
      partial[TID] += partial[TID + step];
    if (step == 128 && TID < 64)
      sums[BID] = partial[TID + 64];
  }
  if (TID == 0)
    sums[BID] = partial[0];
}

static SHARED float tileA[16][16], tileB[16][16];
KERNEL void gemm(const float *a, const float *b, float *c, int m, int n, int k) {
  int row = BIDY * 16 + TIDY, column = BID * 16 + TID;
  float sum = 0;
  for (int at = 0; at < k; at += 16) {
    tileA[TIDY][TID] = row < m && at + (int)TID < k ? a[row * k + at + TID] : 0;
    tileB[TIDY][TID] = at + (int)TIDY < k && column < n ? b[(at + TIDY) * n + column] : 0;
    SYNC;
    for (int i = 0; i < 16; ++i)
      sum = __builtin_fmaf(tileA[TIDY][i], tileB[i][TID], sum);
    SYNC;
  }
  if (row < m && column < n)
    c[row * n + column] = sum;
}
KERNEL void gemm_one_barrier(const float *a, const float *b, float *c, int m, int n, int k) { // fault
  int row = BIDY * 16 + TIDY, column = BID * 16 + TID;
  float sum = 0;
  for (int at = 0; at < k; at += 16) {
    tileA[TIDY][TID] = row < m && at + (int)TID < k ? a[row * k + at + TID] : 0;
    tileB[TIDY][TID] = at + (int)TIDY < k && column < n ? b[(at + TIDY) * n + column] : 0;
    SYNC;
    for (int i = 0; i < 16; ++i)
      sum = __builtin_fmaf(tileA[TIDY][i], tileB[i][TID], sum);
  }
  if (row < m && column < n)
    c[row * n + column] = sum;
}

KERNEL void histogram(const unsigned char *x, unsigned GLOBAL *bins, int n) {
  for (int i = BID * DIM + TID; i < n; i += DIM * GRID)
    __nvvm_atom_add_gen_i((int *)(bins + x[i]), 1);
}
KERNEL void histogram_plain(const unsigned char *x, unsigned GLOBAL *bins, int n) { // fault: no atomics
  for (int i = BID * DIM + TID; i < n; i += DIM * GRID)
    ++bins[x[i]];
}
