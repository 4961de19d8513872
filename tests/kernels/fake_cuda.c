/* A stand-in for libcuda.so.1 on machines without a GPU: as much as Triton's loader and launcher
   call. It runs nothing and records the last launch, so that a test can read what a GPU would get. */
#include "cuda.h"
#include <string.h>

#define MAX_PARAMETERS 64
#define ANSWER(type, value) { *(type) = (value); return CUDA_SUCCESS; }
#define NOTHING { return CUDA_SUCCESS; }

typedef struct {
  unsigned grid[3], block[3], shared_bytes;
  unsigned long long stream, launches, parameters[MAX_PARAMETERS][16]; /* up to 128 bytes each */
} Record;

static Record last;
static int parameter_bytes[MAX_PARAMETERS], parameter_count;
static char modules[1024];
static int module_count;

Record *fake_last_launch(void) { return &last; }
void fake_expect(int count, const int *bytes) {
  parameter_count = count;
  memcpy(parameter_bytes, bytes, count * sizeof(int));
}

static CUresult record(const CUlaunchConfig *c, void **parameters) {
  last.grid[0] = c->gridDimX; last.grid[1] = c->gridDimY; last.grid[2] = c->gridDimZ;
  last.block[0] = c->blockDimX; last.block[1] = c->blockDimY; last.block[2] = c->blockDimZ;
  last.shared_bytes = c->sharedMemBytes;
  last.stream = (unsigned long long)c->hStream;
  memset(last.parameters, 0, sizeof last.parameters);
  for (int i = 0; i < parameter_count; i++)
    memcpy(last.parameters[i], parameters[i], parameter_bytes[i]);
  last.launches++;
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction f, void **p, void **extra) {
  return record(c, p);
}

/* a device like an H100 */
CUresult cuInit(unsigned flags) NOTHING
CUresult cuDriverGetVersion(int *v) ANSWER(v, 13000)
CUresult cuDeviceGetCount(int *n) ANSWER(n, 1)
CUresult cuDeviceGet(CUdevice *d, int ordinal) ANSWER(d, ordinal)
CUresult cuCtxGetDevice(CUdevice *d) ANSWER(d, 0)
CUresult cuDeviceGetAttribute(int *v, CUdevice_attribute which, CUdevice d) {
  switch (which) {
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: ANSWER(v, 232448)
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK: ANSWER(v, 65536)
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: ANSWER(v, 132)
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: ANSWER(v, 32)
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: ANSWER(v, 9)
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: ANSWER(v, 0)
    default: ANSWER(v, 1000)
  }
}
CUresult cuCtxGetCurrent(CUcontext *c) ANSWER(c, (CUcontext)1)
CUresult cuCtxSetCurrent(CUcontext c) NOTHING
CUresult cuDevicePrimaryCtxRetain(CUcontext *c, CUdevice d) ANSWER(c, (CUcontext)1)

/* modules and functions are numbers; the machine code must at least be an ELF file */
CUresult cuModuleLoadData(CUmodule *m, const void *image) {
  if (memcmp(image, "\177ELF", 4)) return CUDA_ERROR_INVALID_IMAGE;
  ANSWER(m, (CUmodule)&modules[module_count++ & 1023])
}
CUresult cuModuleUnload(CUmodule m) NOTHING
CUresult cuModuleGetFunction(CUfunction *f, CUmodule m, const char *n) ANSWER(f, (CUfunction)m)
CUresult cuFuncGetAttribute(int *v, CUfunction_attribute which, CUfunction f)
  ANSWER(v, which == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0)
CUresult cuFuncSetAttribute(CUfunction f, CUfunction_attribute which, int v) NOTHING
CUresult cuFuncSetCacheConfig(CUfunction f, CUfunc_cache c) NOTHING
CUresult cuCtxGetLimit(size_t *v, CUlimit which) ANSWER(v, 0)
CUresult cuCtxSetLimit(CUlimit which, size_t v) NOTHING
CUresult cuGetErrorString(CUresult e, const char **s) ANSWER(s, "an error of the stand-in")
CUresult cuStreamIsCapturing(CUstream s, CUstreamCaptureStatus *c) ANSWER(c, 0)
CUresult cuPointerGetAttribute(void *out, CUpointer_attribute which, CUdeviceptr p)
  ANSWER((CUdeviceptr *)out, p)

/* a tensor map that holds in the open what it was made of */
static int refuse_crossed;
void fake_refuse_crossed(int refuse) { refuse_crossed = refuse; }
CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank,
                                void *address, const cuuint64_t *sizes, const cuuint64_t *strides,
                                const cuuint32_t *box, const cuuint32_t *steps,
                                CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
  unsigned long long *out = (unsigned long long *)map;
  memset(out, 0, sizeof *map);
  if ((unsigned long long)address % 16) return CUDA_ERROR_INVALID_VALUE;
  out[0] = (unsigned long long)address;
  out[1] = type | rank << 8 | swizzle << 16 | fill << 24;
  for (int i = 0; i < rank; i++) {
    out[2 + i] = sizes[i];
    if (refuse_crossed && i > 0 && i < rank - 1 && strides[i] < strides[i - 1])
      return CUDA_ERROR_INVALID_VALUE;
    if (i < rank - 1) out[7 + i] = strides[i];
    out[11 + i] = box[i];
  }
  return CUDA_SUCCESS;
}
CUresult cuOccupancyMaxActiveClusters(int *n, CUfunction f, const CUlaunchConfig *c) ANSWER(n, 8)
