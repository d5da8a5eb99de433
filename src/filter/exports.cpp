// SPDX-License-Identifier: BSD-3-Clause
// What a client asks before it has a connection to a disk, from one translator to the next and on to nbdkit's next.
#include <string>

#include "../nbdkit/answers.hpp"
#include "../nbdkit/clients.hpp"
#include "door.hpp"
#include "next.hpp"

namespace nbdkit_python::filter {
namespace {

// The first translator from this one on that has the callback; their number where none has.
std::size_t first_with(std::size_t callback, std::size_t translator) noexcept {
  while (translator < translators.size() && !translators[translator].has(callback)) ++translator;
  return translator;
}

// target(readonly, …) is nbdkit's next in these.

template <typename Target>
int preconnect(std::size_t from, const Target& target, bool readonly) noexcept {
  const std::size_t i = first_with(id::preconnect, from);
  if (i == translators.size()) return target(readonly);
  bool passed = false;
  int done = -1;
  {
    const Turn turn;
    Call call{*translators[i].script, id::preconnect};
    PassingBy passing{"preconnect", [&](Arguments& arguments) -> Ref {
                        if (!arguments.take("readonly", readonly) || !arguments.done()) return {};
                        passed = true;
                        {
                          const Detach others_run;
                          done = preconnect(i + 1, target, readonly);
                        }
                        if (done == -1) return raise_failed("preconnect", EPERM), Ref{};
                        return Ref::borrow(Py_None);
                      }};
    const Next next{call, passing};
    const Ref answer = call.invoke(next.get(), readonly);
    if (!answer || !to_nothing(answer.get())) return call.fail(), -1;
  }
  // What the plugin has to say of a client is not left out by mistake.
  return passed ? done : preconnect(i + 1, target, readonly);
}

template <typename Target>
int list_exports(std::size_t from, const Target& target, bool readonly, bool is_tls, nbdkit_exports* exports) noexcept {
  const std::size_t i = first_with(id::list_exports, from);
  if (i == translators.size()) return target(readonly, exports);
  const Turn turn;
  Call call{*translators[i].script, id::list_exports};
  PassingBy passing{"list_exports", [&](Arguments& arguments) -> Ref {
                      bool r = readonly;
                      if (!arguments.take("readonly", r) || !arguments.done()) return {};
                      int done = -1;
                      const std::unique_ptr<nbdkit_exports, decltype(&nbdkit_exports_free)> list{nbdkit_exports_new(),
                                                                                                 nbdkit_exports_free};
                      if (list) {
                        const Detach others_run;
                        done = list_exports(i + 1, target, r, is_tls, list.get());
                      }
                      if (done == -1) return raise_failed("list_exports", EIO), Ref{};
                      return to_list(list.get());
                    }};
  const Next next{call, passing};
  const Ref answer = call.invoke(next.get(), readonly, is_tls);
  if (answer && add_exports(answer.get(), exports)) return 0;
  call.fail();
  return -1;
}

template <typename Target>
const char* default_export(std::size_t from, const Target& target, bool readonly, bool is_tls) noexcept {
  const std::size_t i = first_with(id::default_export, from);
  if (i == translators.size()) return target(readonly);
  const Turn turn;
  Call call{*translators[i].script, id::default_export};
  PassingBy passing{"default_export", [&](Arguments& arguments) -> Ref {
                      bool r = readonly;
                      if (!arguments.take("readonly", r) || !arguments.done()) return {};
                      const char* name = nullptr;
                      {
                        const Detach others_run;
                        name = default_export(i + 1, target, r, is_tls);
                      }
                      return name ? to_python(name) : Ref::borrow(Py_None);
                    }};
  const Next next{call, passing};
  const Ref answer = call.invoke(next.get(), readonly, is_tls);
  if (answer && answer.get() == Py_None) return nullptr;
  if (answer)
    if (const char* const name = to_interned(answer.get())) return name;
  call.fail();
  return nullptr;
}

}  // namespace

int preconnect(nbdkit_next_preconnect* next, nbdkit_backend* backend, int readonly) noexcept {
  clients::arrive();
  return preconnect(
      0, [=](bool r) { return next(backend, r ? 1 : 0); }, readonly != 0);
}

int list_exports(nbdkit_next_list_exports* next, nbdkit_backend* backend, int readonly, int is_tls,
                 nbdkit_exports* exports) noexcept {
  const auto target = [=](bool r, nbdkit_exports* list) { return next(backend, r ? 1 : 0, list); };
  return list_exports(0, target, readonly != 0, is_tls != 0, exports);
}

const char* default_export(nbdkit_next_default_export* next, nbdkit_backend* backend, int readonly,
                           int is_tls) noexcept {
  return default_export(
      0, [=](bool r) { return next(backend, r ? 1 : 0); }, readonly != 0, is_tls != 0);
}

}  // namespace nbdkit_python::filter
