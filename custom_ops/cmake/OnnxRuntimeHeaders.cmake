# Finds the headers of ONNX Runtime's C API and sets ONNXRUNTIME_INCLUDE_DIR. Nothing of its library is linked.
#
# In order: ONNXRUNTIME_INCLUDE_DIR (CMake or environment variable), an installed development package, and Debian's
# development package unpacked into the build tree.

set(ONNXRUNTIME_INCLUDE_DIR "$ENV{ONNXRUNTIME_INCLUDE_DIR}" CACHE PATH "Directory of onnxruntime_c_api.h")

if(NOT ONNXRUNTIME_INCLUDE_DIR)
  find_package(PkgConfig QUIET)
  if(PkgConfig_FOUND)
    pkg_check_modules(ONNXRUNTIME_PC QUIET libonnxruntime)
  endif()
  find_path(ONNXRUNTIME_INSTALLED_DIR onnxruntime_c_api.h
    HINTS ${ONNXRUNTIME_PC_INCLUDE_DIRS}
    PATH_SUFFIXES onnxruntime onnxruntime/core/session)
  if(ONNXRUNTIME_INSTALLED_DIR)
    set(ONNXRUNTIME_INCLUDE_DIR "${ONNXRUNTIME_INSTALLED_DIR}")
  endif()
endif()

if(NOT ONNXRUNTIME_INCLUDE_DIR)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  message(STATUS "ONNX Runtime headers: not installed, fetching Debian's development package")
  execute_process(
    COMMAND "${Python3_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/../tools/ort_headers.py"
            "${CMAKE_CURRENT_BINARY_DIR}/onnxruntime-headers"
    RESULT_VARIABLE fetch_status
    OUTPUT_VARIABLE ONNXRUNTIME_FETCHED_DIR OUTPUT_STRIP_TRAILING_WHITESPACE
    ERROR_VARIABLE fetch_error ERROR_STRIP_TRAILING_WHITESPACE)
  if(NOT fetch_status EQUAL 0)
    message(FATAL_ERROR
      "No headers of ONNX Runtime found, and fetching them failed:\n${fetch_error}\n"
      "Set ONNXRUNTIME_INCLUDE_DIR to the directory that holds onnxruntime_c_api.h (version 1.18 or later; it is in "
      "every release archive of ONNX Runtime), or install your distribution's development package of ONNX Runtime.")
  endif()
  set(ONNXRUNTIME_INCLUDE_DIR "${ONNXRUNTIME_FETCHED_DIR}")
endif()

set(header "${ONNXRUNTIME_INCLUDE_DIR}/onnxruntime_c_api.h")
if(NOT EXISTS "${header}")
  message(FATAL_ERROR "ONNXRUNTIME_INCLUDE_DIR is ${ONNXRUNTIME_INCLUDE_DIR}, which holds no onnxruntime_c_api.h")
endif()
file(STRINGS "${header}" version_line REGEX "#define ORT_API_VERSION [0-9]+")
string(REGEX MATCH "[0-9]+$" ONNXRUNTIME_API_VERSION "${version_line}")
if(NOT ONNXRUNTIME_API_VERSION GREATER_EQUAL 18)
  message(FATAL_ERROR
    "${header} has ORT_API_VERSION '${ONNXRUNTIME_API_VERSION}'; accepted: 18 (ONNX Runtime 1.18) or later")
endif()
message(STATUS "ONNX Runtime headers: ${ONNXRUNTIME_INCLUDE_DIR} (API ${ONNXRUNTIME_API_VERSION})")
