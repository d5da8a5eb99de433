// SPDX-License-Identifier: BSD-3-Clause
// The built-in module `_glusterfs`: types and constants.
#pragma once

namespace nbdkit_python::gluster {

// Makes it, and takes from the package `glusterfs` what the door needs. False: Python's error indicator is set.
bool make_module() noexcept;

}  // namespace nbdkit_python::gluster
