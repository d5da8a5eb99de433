// SPDX-License-Identifier: BSD-3-Clause
// Python's copies of GlusterFS's plain structures, which are the script's own.
#pragma once

#include "door.hpp"

namespace nbdkit_python::gluster {

Ref make_iatt(const struct iatt& iatt) noexcept;
const struct iatt& iatt_of(PyObject* iatt) noexcept;
Ref make_flock(const struct gf_flock* flock) noexcept;
struct gf_flock* flock_of(PyObject* flock) noexcept;
Ref make_lease(const struct gf_lease& lease) noexcept;
struct gf_lease* lease_of(PyObject* lease) noexcept;
Ref make_statvfs(const struct statvfs& statvfs) noexcept;
struct statvfs* statvfs_of(PyObject* statvfs) noexcept;

PyTypeObject* make_iatt_type() noexcept;
PyTypeObject* make_flock_type() noexcept;
PyTypeObject* make_lease_type() noexcept;
PyTypeObject* make_statvfs_type() noexcept;

}  // namespace nbdkit_python::gluster
