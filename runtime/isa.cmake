# Kernel files get the flags of their instruction level; nothing else does, and they hold no shared inline code.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  file(GLOB_RECURSE avx2 CONFIGURE_DEPENDS *_avx2.cc)
  file(GLOB_RECURSE avx512 CONFIGURE_DEPENDS *_avx512.cc)
  set_source_files_properties(${avx2} PROPERTIES COMPILE_FLAGS "-O3 -mavx2 -mfma -mf16c")
  set_source_files_properties(${avx512} PROPERTIES COMPILE_FLAGS
    "-O3 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx2 -mfma -mf16c -mprefer-vector-width=512 -Wno-uninitialized")
else()
  target_compile_definitions(pith_runtime PRIVATE PITH_SCALAR_ONLY)
endif()
