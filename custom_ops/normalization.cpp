#include "normalization.h"

namespace onnxnorm {

int64_t element_size(Element element) {
  switch (element) {
    case Element::float32:
      return 4;
    case Element::float64:
      return 8;
    default:
      return 2;
  }
}

bool view_of(const Normalization& normalization, View& view) {
  int64_t* const extents[] = {&view.depth, &view.groups, &view.outer, &view.batch};
  constexpr bool reduced[] = {true, false, true, false};
  int level = 0;
  // From the last to the first.
  for (int64_t d = normalization.rank - 1; d >= 0; --d) {
    const Dimension& dimension = normalization.dimensions[d];
    if (dimension.extent == 1) continue;
    while (level < 4 && reduced[level] != dimension.reduced) ++level;
    if (level == 4) return false;
    *extents[level] *= dimension.extent;
  }
  if (view.groups == 1) {  // the rows of the only group touch
    view.depth *= view.outer;
    view.outer = 1;
  }
  if (view.outer == 1) {
    view.batch *= view.groups;
    view.groups = 1;
  }
  return true;
}

}  // namespace onnxnorm
