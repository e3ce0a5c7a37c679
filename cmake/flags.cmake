# Warnings, hardening and sanitizers for every target, and the helper that makes one library per folder.

add_compile_options(
  -Wall -Wextra -Wconversion -Wshadow -Wdouble-promotion -Wno-sign-conversion
  -fstack-protector-strong -fno-math-errno -ffp-contract=off)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # False alarms of g++ 12 in its own headers.
  add_compile_options(-Wno-maybe-uninitialized -Wno-restrict -Wno-stringop-overflow
                      -Wno-stringop-overread -Wno-array-bounds)
endif()
option(PITH_WERROR "Warnings are errors" ON)
if(PITH_WERROR)
  add_compile_options(-Werror)
endif()
add_link_options(-Wl,-z,relro,-z,now)
add_compile_definitions(_GLIBCXX_ASSERTIONS)
if(CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT PITH_SANITIZE)
  add_compile_options(-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
endif()

if(PITH_SANITIZE)
  add_compile_options(-fsanitize=${PITH_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${PITH_SANITIZE})
endif()
if(PITH_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(PITH_COVERAGE)
  add_compile_options(--coverage -fprofile-abs-path)
  add_link_options(--coverage)
endif()

# pith_library(NAME [SOURCES globs...] [DEPENDS libs...]): every .cc below the current folder as pith_NAME, or the SOURCES,
# of which "part/*.cc" reaches into the folders of `part` and "*.cc" does not.
function(pith_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  if("*.cc" IN_LIST ARG_SOURCES)
    file(GLOB here CONFIGURE_DEPENDS *.cc)
    list(REMOVE_ITEM ARG_SOURCES *.cc)
  elseif(NOT ARG_SOURCES)
    set(ARG_SOURCES *.cc)
  endif()
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${ARG_SOURCES})
  list(APPEND sources ${here})
  add_library(pith_${name} STATIC ${sources})
  target_include_directories(pith_${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(pith_${name} PUBLIC ${ARG_DEPENDS})
endfunction()

# pith_precompile(TARGET headers...), or pith_precompile(TARGET REUSE_FROM OTHER) for the headers of a target with the same
# flags: half of the time to compile a file goes to headers of other projects. Files include what they use all the same:
# presets with sanitizers compile without.
function(pith_precompile target)
  if(NOT PITH_PCH)
    return()
  endif()
  if("${ARGV1}" STREQUAL "REUSE_FROM")
    target_precompile_headers(${target} ${ARGN})
  else()
    target_precompile_headers(${target} PRIVATE ${ARGN})
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${target} PRIVATE -fpch-preprocess)  # for ccache
  endif()
endfunction()
