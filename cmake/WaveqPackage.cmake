# What `cmake --install` and CPack put into place: the program, one shared library with every layer in it, the public
# headers, a CMake package (find_package(waveq) gives waveq::waveq) and a pkg-config file. None of the settings that waveq
# itself is built with reach a consumer; C++20 is the one thing asked of it.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(layers graph quantizers rewrites calibration integerize export)
list(TRANSFORM layers PREPEND waveq_ OUTPUT_VARIABLE layer_targets)

list(TRANSFORM layer_targets REPLACE "(.+)" "$<TARGET_OBJECTS:\\1>" OUTPUT_VARIABLE layer_objects)
add_library(waveq_shared SHARED ${layer_objects})
set_target_properties(waveq_shared PROPERTIES LINKER_LANGUAGE CXX)
target_link_libraries(waveq_shared PRIVATE waveq_export waveq_options)
target_link_libraries(waveq_shared INTERFACE fmt::fmt)  # its headers are included by ours
target_compile_features(waveq_shared INTERFACE cxx_std_20)
target_include_directories(waveq_shared INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
set_target_properties(waveq_shared PROPERTIES OUTPUT_NAME waveq EXPORT_NAME waveq VERSION ${PROJECT_VERSION}
                      SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})

install(TARGETS waveq)
install(TARGETS waveq_shared EXPORT waveq-targets)
foreach(layer IN LISTS layers)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${layer}/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
endforeach()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/waveq)
install(EXPORT waveq-targets NAMESPACE waveq:: DESTINATION ${package_dir})
configure_package_config_file(cmake/waveq-config.cmake.in ${PROJECT_BINARY_DIR}/waveq-config.cmake
                              INSTALL_DESTINATION ${package_dir})
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/waveq-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/waveq-config.cmake ${PROJECT_BINARY_DIR}/waveq-config-version.cmake
        DESTINATION ${package_dir})

# ${pcfiledir} keeps the installed tree movable.
file(RELATIVE_PATH pc_to_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/waveq.pc.in ${PROJECT_BINARY_DIR}/waveq.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/waveq.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# cpack -G DEB: one package; dpkg-shlibdeps finds what the program and the library need.
set(CPACK_PACKAGE_NAME waveq)
set(CPACK_PACKAGE_CONTACT "waveq developers <waveq@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "turns float ONNX networks into integer ones for microcontrollers")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION devel)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# The headers include fmt's.
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "libfmt-dev")
set(CPACK_VERBATIM_VARIABLES ON)
include(CPack)
