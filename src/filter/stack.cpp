// SPDX-License-Identifier: BSD-3-Clause
// A stack's start and end.
#include "stack.hpp"

#include <cerrno>

#include "next.hpp"

namespace nbdkit_python::filter {

Stack::Stack(std::size_t first, bool is_tls) noexcept : is_tls_{is_tls} {
  Level* below = &bottom_;
  for (std::size_t i = translators.size(); i-- > first; below = layers_.back().get())
    layers_.push_back(std::make_unique<Layer>(translators[i], *below));
}

bool Stack::open(std::size_t count, bool readonly, const std::string& export_name) noexcept {
  if (count == 0) return open_bottom(readonly, export_name.c_str());
  Layer& layer = *layers_[count - 1];
  if (!layer.translator().has(id::open)) {
    if (!open(count - 1, readonly, export_name)) return false;
    layer.opened({}, readonly);
    return true;
  }
  enum { untried, opened, failed } below = untried;
  const auto open_below = [&](bool r, const std::string& name) {
    const Detach others_run;
    below = open(count - 1, r, name) ? opened : failed;
  };
  const Turn turn;
  Call call{*layer.translator().script, id::open};
  PassingBy passing{"open", [&](Arguments& arguments) -> Ref {
                      bool r = readonly;
                      std::string name = export_name;
                      if (!arguments.take("readonly", r) || !arguments.take("export_name", name) || !arguments.done())
                        return {};
                      if (below == opened)
                        return raise(PyExc_RuntimeError, "open", "what is below is open already"), Ref{};
                      open_below(r, name);
                      if (below == failed) return raise_failed("open", EIO), Ref{};
                      return Ref::borrow(Py_None);
                    }};
  const Next next{call, passing};
  Ref handle = call.invoke(next.get(), readonly, export_name.c_str(), is_tls_);
  if (handle && to_nothing(handle.get())) {
    if (below == untried) open_below(readonly, export_name);
    layer.opened(std::move(handle), readonly);
    if (below == opened) return true;
    layer.close();
    return false;
  }
  call.fail();
  if (below == opened) {
    const Detach others_run;
    close(count - 1);
    close_bottom();
  }
  return false;
}

void Stack::close(std::size_t count) noexcept {
  while (count-- > 0) layers_[count]->close();
}

bool Stack::prepare(nbdkit_next* next) noexcept {
  bottom_.set(next);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (layers_[i]->prepare()) continue;
    while (i-- > 0) layers_[i]->finalize();
    return false;
  }
  return true;
}

bool Stack::finalize() noexcept {
  for (std::size_t i = layers_.size(); i-- > 0;)
    if (!layers_[i]->finalize()) return false;
  return true;
}

}  // namespace nbdkit_python::filter
