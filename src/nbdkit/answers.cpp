// SPDX-License-Identifier: BSD-3-Clause
// Lists and strings, from a callback's answer to nbdkit.
#include "answers.hpp"

#include <algorithm>

#include "nbdkit_python/error.hpp"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

namespace nbdkit_python {

const char* to_interned(PyObject* answer) noexcept {
  const auto text = to_text(answer);
  if (!text) return nullptr;
  const char* const interned = nbdkit_strdup_intern(text->c_str());
  if (interned == nullptr) PyErr_NoMemory();
  return interned;
}

bool add_exports(PyObject* answer, nbdkit_exports* exports) noexcept {
  const auto add = [&](PyObject* item) {
    const auto found = to_export(item);
    if (!found) return false;
    const char* const description = found->description ? found->description->c_str() : nullptr;
    if (nbdkit_add_export(exports, found->name.c_str(), description) == 0) return true;
    script_error("nbdkit refuses the export " + describe(item));
    return false;
  };
  return for_each(answer, "names or (name, description) pairs, such as a list of them", add);
}

bool add_extents(PyObject* answer, std::uint32_t count, std::uint64_t offset, nbdkit_extents* extents) noexcept {
  const std::uint64_t end = offset + count;
  bool any = false, enough = false;
  const auto add = [&](PyObject* item) {
    const auto extent = to_extent(item);
    if (!extent) return false;
    any = any || (extent->length > 0 && extent->offset + extent->length > offset);
    // Nothing beyond the request: told more about one of 2**32 - 1 bytes, nbdkit 1.42.2 and older would abort.
    if (enough) return true;
    const std::uint64_t rest = end - std::min(end, extent->offset);
    enough = rest > 0 && extent->length >= rest;
    if (nbdkit_add_extent(extents, extent->offset, enough ? rest : extent->length, extent->type) == 0) return true;
    script_error("nbdkit refuses the extent " + describe(item));
    return false;
  };
  if (!for_each(answer, "(offset, length, type) tuples, such as a list of them", add)) return false;
  if (!any) script_error("expected at least one extent of the range, got none");
  return any;
}

}  // namespace nbdkit_python
