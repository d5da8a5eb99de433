// SPDX-License-Identifier: BSD-3-Clause
// nbdkit-python-filter: the struct by which nbdkit knows this door.
//
// nbdkit copies it before there is a parameter, so all callbacks are in it: what no translator has is passed on in C++.
#include "door.hpp"

namespace {

namespace door = nbdkit_python::filter;
using door::Ability;

template <Ability ability>
int able(nbdkit_next*, void* handle) noexcept {
  return door::top(handle).able(ability);
}

// clang-format off
nbdkit_filter filter = {
    .name               = "python",
    .longname           = "nbdkit Python filter",
    .description        = "Translators written in Python, between nbdkit and any plugin",
    .load               = door::load,
    .unload             = door::unload,
    .config             = door::config,
    .config_complete    = door::config_complete,
    .config_help        = "translator=<FILENAME> (required) A Python script; may be given more than once.\n"
                          "[parameters after it are offered to it first]",
    .thread_model       = door::thread_model,
    .get_ready          = door::get_ready,
    .after_fork         = door::after_fork,
    .cleanup            = door::cleanup,
    .preconnect         = door::preconnect,
    .list_exports       = door::list_exports,
    .default_export     = door::default_export,
    .open               = door::open,
    .close              = door::close,
    .prepare            = door::prepare,
    .finalize           = door::finalize,
    .get_size           = [](nbdkit_next*, void* h) { return door::top(h).size(); },
    .export_description = [](nbdkit_next*, void* h) { return door::top(h).export_description(); },
    .block_size         = [](nbdkit_next*, void* h, uint32_t* minimum, uint32_t* preferred, uint32_t* maximum) {
      return door::top(h).block_size(minimum, preferred, maximum);
    },
    .can_write          = able<Ability::can_write>,
    .can_flush          = able<Ability::can_flush>,
    .is_rotational      = able<Ability::is_rotational>,
    .can_trim           = able<Ability::can_trim>,
    .can_zero           = able<Ability::can_zero>,
    .can_fast_zero      = able<Ability::can_fast_zero>,
    .can_extents        = able<Ability::can_extents>,
    .can_fua            = able<Ability::can_fua>,
    .can_multi_conn     = able<Ability::can_multi_conn>,
    .can_cache          = able<Ability::can_cache>,
    .pread              = [](nbdkit_next*, void* h, void* buf, uint32_t count, uint64_t offset, uint32_t flags,
                             int* err) {
      return door::top(h).pread(buf, count, offset, flags, err);
    },
    .pwrite             = [](nbdkit_next*, void* h, const void* buf, uint32_t count, uint64_t offset, uint32_t flags,
                             int* err) {
      return door::top(h).pwrite(buf, count, offset, flags, err);
    },
    .flush              = [](nbdkit_next*, void* h, uint32_t flags, int* err) {
      return door::top(h).flush(flags, err);
    },
    .trim               = [](nbdkit_next*, void* h, uint32_t count, uint64_t offset, uint32_t flags, int* err) {
      return door::top(h).trim(count, offset, flags, err);
    },
    .zero               = [](nbdkit_next*, void* h, uint32_t count, uint64_t offset, uint32_t flags, int* err) {
      return door::top(h).zero(count, offset, flags, err);
    },
    .extents            = [](nbdkit_next*, void* h, uint32_t count, uint64_t offset, uint32_t flags,
                             nbdkit_extents* list, int* err) {
      return door::top(h).extents(count, offset, flags, list, err);
    },
    .cache              = [](nbdkit_next*, void* h, uint32_t count, uint64_t offset, uint32_t flags, int* err) {
      return door::top(h).cache(count, offset, flags, err);
    },
};
// clang-format on

// What only newer headers have.
template <typename Filter>
void complete(Filter& f) noexcept {
  if constexpr (requires { f.dump_plugin; }) f.dump_plugin = door::dump_plugin;
}
const bool completed = (complete(filter), true);

}  // namespace

NBDKIT_REGISTER_FILTER(filter)
