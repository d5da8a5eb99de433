// SPDX-License-Identifier: BSD-3-Clause
// nbdkit-python-plugin: the struct by which nbdkit knows this door.
#include "door.hpp"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

namespace {

namespace door = nbdkit_python::door;

// clang-format off
nbdkit_plugin plugin = {
    .name               = "python",
    .longname           = "nbdkit Python plugin",
    .version            = NBDKIT_PYTHON_VERSION,
    .description        = "A disk written in Python",
    .load               = door::load,
    .unload             = door::unload,
    .config             = door::config,
    .config_complete    = door::config_complete,
    .config_help        = "script=<FILENAME>     (required) The Python script to run; - is standard input.\n"
                          "[other parameters are the script's own]",
    .open               = door::open,
    .close              = door::close,
    .get_size           = door::get_size,
    .can_write          = door::can_write,
    .can_flush          = door::can_flush,
    .is_rotational      = door::is_rotational,
    .can_trim           = door::can_trim,
    .dump_plugin        = door::dump_plugin,
    .can_zero           = door::can_zero,
    .can_fua            = door::can_fua,
    .pread              = door::pread,
    .pwrite             = door::pwrite,
    .flush              = door::flush,
    .trim               = door::trim,
    .zero               = door::zero,
    .magic_config_key   = "script",
    .can_multi_conn     = door::can_multi_conn,
    .can_extents        = door::can_extents,
    .extents            = door::extents,
    .can_cache          = door::can_cache,
    .cache              = door::cache,
    .thread_model       = door::thread_model,
    .can_fast_zero      = door::can_fast_zero,
    .preconnect         = door::preconnect,
    .get_ready          = door::get_ready,
    .after_fork         = door::after_fork,
    .list_exports       = door::list_exports,
    .default_export     = door::default_export,
    .export_description = door::export_description,
    .cleanup            = door::cleanup,
    .block_size         = door::block_size,
};
// clang-format on

}  // namespace

NBDKIT_REGISTER_PLUGIN(plugin)
