# Settings of everything that includes MLIR: flags, one precompiled header, and
# one helper per kind of target.
add_library(llamac_options INTERFACE)
target_include_directories(llamac_options INTERFACE ${PROJECT_SOURCE_DIR}
                           ${PROJECT_SOURCE_DIR}/include ${PROJECT_BINARY_DIR}
                           ${PROJECT_BINARY_DIR}/include)
target_include_directories(llamac_options SYSTEM INTERFACE ${MLIR_INCLUDE_DIRS} ${LLVM_INCLUDE_DIRS})
target_compile_options(llamac_options INTERFACE -fno-rtti -fno-exceptions)
separate_arguments(LLAMAC_LLVM_DEFINITIONS NATIVE_COMMAND "${LLVM_DEFINITIONS}")
target_compile_definitions(llamac_options INTERFACE ${LLAMAC_LLVM_DEFINITIONS})

add_library(llamac_pch STATIC ${PROJECT_SOURCE_DIR}/cmake/Empty.cpp)
target_link_libraries(llamac_pch PUBLIC llamac_options)
target_compile_options(llamac_pch PRIVATE -Xclang -fno-pch-timestamp)
target_precompile_headers(llamac_pch PRIVATE
  <mlir/Dialect/Arith/IR/Arith.h> <mlir/Dialect/Bufferization/IR/Bufferization.h>
  <mlir/Dialect/Func/IR/FuncOps.h> <mlir/Dialect/LLVMIR/LLVMDialect.h>
  <mlir/Dialect/Linalg/IR/Linalg.h> <mlir/Dialect/Math/IR/Math.h>
  <mlir/Dialect/MemRef/IR/MemRef.h> <mlir/Dialect/SCF/IR/SCF.h>
  <mlir/Dialect/Tensor/IR/Tensor.h> <mlir/IR/Builders.h> <mlir/IR/BuiltinOps.h>
  <mlir/IR/Verifier.h> <mlir/Pass/Pass.h> <mlir/Pass/PassManager.h>)

# llamac_library(NAME source... DEPENDS target...): a static library of the compiler.
function(llamac_library name)
  cmake_parse_arguments(ARG "" "" "DEPENDS" ${ARGN})
  add_library(${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PUBLIC llamac_options)
  target_compile_options(${name} PRIVATE -Xclang -fno-pch-timestamp)
  target_precompile_headers(${name} REUSE_FROM llamac_pch)
  add_dependencies(${name} llamac_generated ${ARG_DEPENDS})
endfunction()

# llamac_tablegen(FOLDER FILE.td OUTPUT.inc flag...): generates BUILD/FOLDER/OUTPUT.inc.
add_custom_target(llamac_generated)
function(llamac_tablegen folder td output)
  set(out ${PROJECT_BINARY_DIR}/${folder}/${output})
  add_custom_command(OUTPUT ${out}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/${folder}
    COMMAND ${MLIR_TABLEGEN_EXE} ${ARGN} -I ${PROJECT_SOURCE_DIR} -I ${PROJECT_SOURCE_DIR}/include
            -I ${MLIR_INCLUDE_DIRS} ${PROJECT_SOURCE_DIR}/${folder}/${td} -o ${out}
            -d ${out}.d
    DEPFILE ${out}.d
    DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/${td} VERBATIM)
  string(MAKE_C_IDENTIFIER gen_${folder}_${output} target)
  add_custom_target(${target} DEPENDS ${out})
  add_dependencies(llamac_generated ${target})
endfunction()

# llamac_tool(NAME source...): an executable with all dialects and steps, in bin/.
function(llamac_tool name)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE llamac_steps MLIR LLVM)
  target_compile_options(${name} PRIVATE -Xclang -fno-pch-timestamp)
  target_precompile_headers(${name} REUSE_FROM llamac_pch)
  add_dependencies(${name} llamac_generated)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
  install(TARGETS ${name} RUNTIME DESTINATION bin)
endfunction()
