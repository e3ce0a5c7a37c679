# Kernel files get the flags of their instruction level; nothing else does, and they hold no shared inline code.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(avx2 "-O3 -mavx2 -mfma -mf16c")
  set(avx512 "${avx2} -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mprefer-vector-width=512 -Wno-uninitialized")
  if(PITH_SANITIZE)  # at -O3 a compiler instruments these for nine minutes
    string(REPLACE "-O3" "-O1" avx512 "${avx512}")
  endif()
  set_source_files_properties(cpu/kernels/avx2.cc PROPERTIES SKIP_PRECOMPILE_HEADERS ON COMPILE_FLAGS "${avx2}")
  set_source_files_properties(cpu/kernels/avxvnni.cc PROPERTIES SKIP_PRECOMPILE_HEADERS ON COMPILE_FLAGS "${avx2} -mavxvnni")
  set_source_files_properties(cpu/kernels/avx512.cc PROPERTIES SKIP_PRECOMPILE_HEADERS ON COMPILE_FLAGS "${avx512}")
  set_source_files_properties(cpu/kernels/amx.cc PROPERTIES SKIP_PRECOMPILE_HEADERS ON COMPILE_FLAGS "${avx512} -mamx-tile -mamx-int8")
else()
  target_compile_definitions(pith_cpu PRIVATE PITH_SCALAR_ONLY)
endif()
# Fuzz targets try parsers, not kernels, and clang takes minutes to instrument these.
if(PITH_FUZZ)
  set_property(SOURCE cpu/kernels/scalar.cc cpu/kernels/avx2.cc cpu/kernels/avxvnni.cc cpu/kernels/avx512.cc
                      cpu/kernels/amx.cc APPEND_STRING PROPERTY COMPILE_FLAGS " -fno-sanitize=all")
endif()
