// The loops for every processor that the compiler's defaults cover.
#include "cpu/loops/table.h"

namespace alignlab {
const Kernels kBaseline = baseline::table("baseline");
}  // namespace alignlab
