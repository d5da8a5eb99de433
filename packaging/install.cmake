# SPDX-License-Identifier: BSD-3-Clause
# Where everything goes: `cmake --install build`, and the Debian packages that `cpack --config build/CPackConfig.cmake`
# makes. Each package is a component of the same name.

# In nbdkit's own folders, and so beneath its own prefix unless another one is asked for.
foreach(name IN ITEMS prefix libdir plugindir filterdir)
  pkg_get_variable(nbdkit_${name} nbdkit ${name})
endforeach()
foreach(name IN ITEMS libdir plugindir filterdir)
  cmake_path(RELATIVE_PATH nbdkit_${name} BASE_DIRECTORY ${nbdkit_prefix})
endforeach()
if(CMAKE_INSTALL_PREFIX_INITIALIZED_TO_DEFAULT)
  set(CMAKE_INSTALL_PREFIX ${nbdkit_prefix} CACHE PATH "" FORCE)
endif()
set(NBDKIT_PYTHON_SITE lib/python3/dist-packages CACHE STRING
  "Where the packages of python/ go beneath the prefix: on the path of the Python that the plugin runs")

# One core, which the doors find from where they are; beside it the folder in which it looks for the package.
install(TARGETS nbdkit-python LIBRARY DESTINATION ${nbdkit_libdir} COMPONENT nbdkit-python)
function(install_door target folder component)
  install(TARGETS ${target} LIBRARY DESTINATION ${folder} COMPONENT ${component})
  file(RELATIVE_PATH up /${folder} /${nbdkit_libdir})
  set_target_properties(${target} PROPERTIES INSTALL_RPATH "$ORIGIN/${up}")
endfunction()
install_door(nbdkit-python-plugin ${nbdkit_plugindir} nbdkit-python)
install_door(nbdkit-python-filter ${nbdkit_filterdir} nbdkit-python-filter)
if(TARGET gluster-python)
  # Of the version whose translator it is.
  execute_process(COMMAND glusterfs --print-xlatordir OUTPUT_VARIABLE xlators OUTPUT_STRIP_TRAILING_WHITESPACE)
  cmake_path(RELATIVE_PATH xlators BASE_DIRECTORY ${nbdkit_prefix})
  install_door(gluster-python ${xlators}/user nbdkit-python-gluster)
endif()
file(RELATIVE_PATH package /${nbdkit_libdir}/nbdkit-python /${NBDKIT_PYTHON_SITE}/nbdkit)
file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/installed)
file(CREATE_LINK ${package} ${CMAKE_CURRENT_BINARY_DIR}/installed/nbdkit SYMBOLIC)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/installed/nbdkit DESTINATION ${nbdkit_libdir}/nbdkit-python
  COMPONENT nbdkit-python)

# The packages in Python, each in a component of its own.
function(install_package name component)
  install(DIRECTORY python/${name} DESTINATION ${NBDKIT_PYTHON_SITE} COMPONENT ${component}
    PATTERN __pycache__ EXCLUDE)
endfunction()
install_package(nbdkit nbdkit-python)
if(TARGET gluster-python)
  install_package(glusterfs nbdkit-python-gluster)
endif()
install_package(aqmp python3-aqmp)
install_package(xenstore python3-xenstore)

# So that a server's start need not compile them, which it could not keep. Packages do it when they are installed.
install(CODE "
  if(NOT DEFINED ENV{DESTDIR} AND NOT CMAKE_INSTALL_PREFIX MATCHES _CPack_Packages)
    execute_process(COMMAND ${Python_EXECUTABLE} -m compileall -q
      \${CMAKE_INSTALL_PREFIX}/${NBDKIT_PYTHON_SITE}/nbdkit)
  endif()" COMPONENT nbdkit-python)

# The command, manual pages, completion.
install(PROGRAMS packaging/nbdkit-python DESTINATION bin COMPONENT nbdkit-python)
install(FILES packaging/nbdkit-python.1 DESTINATION share/man/man1 COMPONENT nbdkit-python)
install(FILES packaging/nbdkit-python-filter.1 DESTINATION share/man/man1 COMPONENT nbdkit-python-filter)
install(FILES packaging/nbdkit-python-plugin.3 DESTINATION share/man/man3 COMPONENT nbdkit-python)
install(FILES packaging/completion.bash DESTINATION share/bash-completion/completions RENAME nbdkit-python
  COMPONENT nbdkit-python)

# What there is to read.
foreach(component IN ITEMS nbdkit-python nbdkit-python-filter python3-aqmp python3-xenstore)
  install(FILES LICENSE DESTINATION share/doc/${component} RENAME copyright COMPONENT ${component})
endforeach()
if(TARGET gluster-python)
  install(FILES LICENSE DESTINATION share/doc/nbdkit-python-gluster RENAME copyright COMPONENT nbdkit-python-gluster)
endif()
install(FILES README.md CHANGELOG.md DESTINATION share/doc/nbdkit-python COMPONENT nbdkit-python)
install(DIRECTORY docs examples DESTINATION share/doc/nbdkit-python COMPONENT nbdkit-python
  PATTERN __pycache__ EXCLUDE)

# Debian packages. What is compiled depends on the libraries that it is linked with; a filter, and nothing else, on the
# exact nbdkit that it was built for.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "nbdkit-python developers <nbdkit-python@localhost>")
set(CPACK_PACKAGING_INSTALL_PREFIX ${nbdkit_prefix})
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${CMAKE_CURRENT_BINARY_DIR})

# debian_package(NAME SUMMARY FIELD VALUE …)
function(debian_package component summary)
  string(TOUPPER ${component} id)
  set(CPACK_DEBIAN_${id}_PACKAGE_NAME ${component} PARENT_SCOPE)
  set(CPACK_COMPONENT_${id}_DESCRIPTION ${summary} PARENT_SCOPE)
  set(fields ${ARGN})
  while(fields)
    list(POP_FRONT fields field value)
    set(CPACK_DEBIAN_${id}_${field} ${value} PARENT_SCOPE)
  endwhile()
endfunction()

execute_process(COMMAND dpkg-query --show --showformat=\${Version} nbdkit
  OUTPUT_VARIABLE nbdkit_debian_version ERROR_QUIET)
debian_package(nbdkit-python "disks for nbdkit in Python"
  PACKAGE_DEPENDS "nbdkit, python3:any"
  PACKAGE_RECOMMENDS "python3-libnbd, python3-rich, fio"
  PACKAGE_SUGGESTS python3-matplotlib
  PACKAGE_CONFLICTS nbdkit-plugin-python
  PACKAGE_PROVIDES nbdkit-plugin-python
  PACKAGE_REPLACES nbdkit-plugin-python
  PACKAGE_SHLIBDEPS ON)
debian_package(nbdkit-python-filter "translators for nbdkit in Python"
  PACKAGE_DEPENDS "nbdkit-python (= ${PROJECT_VERSION}), nbdkit (= ${nbdkit_debian_version})"
  PACKAGE_SHLIBDEPS ON)
debian_package(nbdkit-python-gluster "translators for GlusterFS in Python"
  PACKAGE_DEPENDS "nbdkit-python (= ${PROJECT_VERSION}), glusterfs-common, python3:any"
  PACKAGE_SHLIBDEPS ON)
debian_package(python3-aqmp "asynchronous client of QEMU's monitor"
  PACKAGE_DEPENDS python3:any PACKAGE_ARCHITECTURE all)
debian_package(python3-xenstore "client of Xen's store"
  PACKAGE_DEPENDS python3:any PACKAGE_ARCHITECTURE all)
# Those with modules in Python compile them where they are installed.
file(GLOB scripts ${CMAKE_CURRENT_SOURCE_DIR}/packaging/debian/*)
foreach(id IN ITEMS NBDKIT-PYTHON NBDKIT-PYTHON-GLUSTER PYTHON3-AQMP PYTHON3-XENSTORE)
  set(CPACK_DEBIAN_${id}_PACKAGE_CONTROL_EXTRA ${scripts})
endforeach()
include(CPack)
