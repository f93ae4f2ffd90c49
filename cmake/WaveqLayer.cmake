# Settings every target shares. Results must not depend on compiler, build type or CPU:
# no contraction of a*b+c into fma behind our back (where we want fma we write std::fma).
add_library(waveq_options INTERFACE)
target_compile_options(waveq_options INTERFACE
  -Wall -Wextra -Wconversion -Wshadow -Wno-sign-conversion -Werror -ffp-contract=off)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # gcc 12 reports overlapping copies inside std::string that cannot happen (GCC bug 105329).
  target_compile_options(waveq_options INTERFACE -Wno-restrict)
endif()
if(WAVEQ_SANITIZE)
  target_compile_options(waveq_options INTERFACE
    -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g)
  target_link_options(waveq_options INTERFACE -fsanitize=address,undefined)
endif()

# waveq_layer(NAME [USES layer...] [LINK library...]): a static library waveq_NAME from all .cpp files below NAME/,
# with NAME/include as its only public include root. An include against the table does not compile.
function(waveq_layer name)
  cmake_parse_arguments(ARG "" "" "USES;LINK" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${name}/*.cpp)
  add_library(waveq_${name} STATIC ${sources})
  target_include_directories(waveq_${name}
    PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/${name}/include>
    PRIVATE ${PROJECT_SOURCE_DIR}/${name})
  target_link_libraries(waveq_${name} PUBLIC fmt::fmt PRIVATE waveq_options ${ARG_LINK})
  foreach(layer IN LISTS ARG_USES)
    target_link_libraries(waveq_${name} PUBLIC waveq_${layer})
  endforeach()
endfunction()
