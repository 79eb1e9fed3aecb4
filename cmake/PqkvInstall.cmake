# Headers, the CMake package and the pkg-config file. All of it independent of the machine, hence under share/.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/pqkv)
set(generated_dir ${CMAKE_CURRENT_BINARY_DIR}/package)

# Before 1.0 a minor version may break its users.
set(compatibility SameMajorVersion)
if(PROJECT_VERSION_MAJOR EQUAL 0)
  set(compatibility SameMinorVersion)
endif()
write_basic_package_version_file(${generated_dir}/pqkvConfigVersion.cmake
  VERSION ${PROJECT_VERSION} COMPATIBILITY ${compatibility} ARCH_INDEPENDENT)
configure_package_config_file(cmake/pqkvConfig.cmake.in ${generated_dir}/pqkvConfig.cmake
  INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
configure_file(cmake/pqkv.pc.in ${generated_dir}/pqkv.pc @ONLY)

install(DIRECTORY include/pqkv DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp")
install(TARGETS pqkv EXPORT pqkvTargets INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT pqkvTargets NAMESPACE pqkv:: DESTINATION ${package_dir})
install(FILES ${generated_dir}/pqkvConfig.cmake ${generated_dir}/pqkvConfigVersion.cmake cmake/PqkvCompiled.cmake
        DESTINATION ${package_dir})
install(FILES ${generated_dir}/pqkv.pc DESTINATION ${CMAKE_INSTALL_DATADIR}/pkgconfig)
