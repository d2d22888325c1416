from phi4r.planning.buffers import Shapes, largest, read_buffers, temporaries_by_class, temporary_bytes

# Two megabytes, of which 40 layers keep one of 256 x 64 numbers, and 40 gradients of 64 x 64 take the place of half of
# the activations later.
REPORT = """BufferAssignment:
allocation 0: size 4096, parameter 3, shape |f32[1024]| at ShapeIndex {}:
 value: <1 param @0> (size=4096,offset=0): f32[1024]{0}
allocation 1: size 65536, color 1, preallocated-temp:
 value: <2 scratch @0> (size=65536,offset=0): f32[16384]{0:T(8)S(1)}
allocation 2: size 2097152, preallocated-temp:
 value: <3 tuple.1{} @0> (size=16,offset=2000000): (s32[], f32[1024]{0})
 value: <4 while.1{1} (phi) @0> (size=1310720,offset=0): bf16[40,1,256,64]{3,2,1,0:T(8,128)(2,1)}
 value: <5 grads @0> (size=655360,offset=0): f32[40,64,64]{2,1,0}
 value: <6 more @0> (size=655360,offset=1310720): f32[40,64,64]{2,1,0}
 value: <7 again @1> (size=655360,offset=1310720): f32[40,64,64]{2,1,0}
 value: <8 small @0> (size=65536,offset=1966080): bf16[1,256,128]{2,1,0}
"""


def test_only_temporaries_of_the_main_memory_count():
    assert temporary_bytes(REPORT) == 2097152
    assert [buffer.shape for buffer in read_buffers(REPORT)] == [
        "bf16[40,1,256,64]",
        "f32[40,64,64]",
        "f32[40,64,64]",
        "bf16[1,256,128]",
    ]


def test_memory_is_divided_into_classes_that_add_up():
    classes = temporaries_by_class(read_buffers(REPORT), 2097152, Shapes(num_layers=40, row_tokens=256, trains=True))
    assert classes == {"activations": 1310720, "gradients": 655360, "workspace": 2097152 - 1966080}


def test_the_largest_are_told_by_shape_and_not_twice():
    assert largest(read_buffers(REPORT), 5) == [
        {"shape": "bf16[40,1,256,64]", "size": 1310720, "number": 1},
        {"shape": "f32[40,64,64]", "size": 655360, "number": 1},
        {"shape": "bf16[1,256,128]", "size": 65536, "number": 1},
    ]
