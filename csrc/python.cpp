// alignlab._C: importing it registers the ops; it also says how it was built (and not when, so that builds are equal).
#include <pybind11/pybind11.h>

#include "cpu/kernels.h"

#if defined(__clang__)
#define ALIGNLAB_COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define ALIGNLAB_COMPILER "gcc " __VERSION__
#else
#define ALIGNLAB_COMPILER "unknown"
#endif

PYBIND11_MODULE(_C, m) {
  m.doc() = "alignlab's kernels, and how they were built.";
  m.def(
      "build_facts",
      [] {
        pybind11::dict facts;
        facts["compiler"] = ALIGNLAB_COMPILER;
        facts["flags"] = ALIGNLAB_FLAGS;
        facts["torch"] = ALIGNLAB_TORCH;
        facts["cuda architectures"] = ALIGNLAB_CUDA_ARCHITECTURES;
        facts["cpu capability"] = alignlab::kernels().capability;
        return facts;
      },
      "Return the compiler, its flags, the torch that this was built against, and what of it this processor runs.");
}
