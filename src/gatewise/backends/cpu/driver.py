"""The machine code that runs a program: addresses into frames, then every stage, on all threads in one region.

``program(call)`` gets a row of 64-bit numbers: the address of the program's description, the address of the scratch
memory, and those of the tensors.
"""

from __future__ import annotations

from gatewise.backends.cpu import openmp

THREADS, TEMPLATE, BYTES, PLACE, RELOCATIONS, RELOCATION_COUNT, STAGES, STAGE_COUNT = range(8)
"""Of a description. BYTES of frames are copied from TEMPLATE to PLACE bytes into the scratch memory. A relocation is a
pair: the number of the frames to which which number of the call is added."""
SLOTS = 8
CODE, FRAME, OWNER, WAITS = range(4)
"""Of a stage: its machine code, the bytes from the first frame to its own, the thread that runs it or ``ALL``, and
whether all meet before it. Where there are fewer threads than were asked for, each runs what is of several."""
ALL = -1

IR = f"""\
{openmp.DECLARATIONS}
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

define internal i64 @number(ptr %row, i64 %index) alwaysinline {{
  %at = getelementptr i64, ptr %row, i64 %index
  %value = load i64, ptr %at
  ret i64 %value
}}

define internal ptr @frames(ptr %call) alwaysinline {{
  %about = load ptr, ptr %call
  %scratch = call i64 @number(ptr %call, i64 1)
  %place = call i64 @number(ptr %about, i64 {PLACE})
  %address = add i64 %scratch, %place
  %frames = inttoptr i64 %address to ptr
  ret ptr %frames
}}

define internal void @write_frames(ptr %call) {{
entry:
  %about = load ptr, ptr %call
  %frames = call ptr @frames(ptr %call)
  %template.at = call i64 @number(ptr %about, i64 {TEMPLATE})
  %template = inttoptr i64 %template.at to ptr
  %bytes = call i64 @number(ptr %about, i64 {BYTES})
  call void @llvm.memcpy.p0.p0.i64(ptr %frames, ptr %template, i64 %bytes, i1 false)
  %pairs.at = call i64 @number(ptr %about, i64 {RELOCATIONS})
  %pairs = inttoptr i64 %pairs.at to ptr
  %count = call i64 @number(ptr %about, i64 {RELOCATION_COUNT})
  br label %next
next:
  %k = phi i64 [ 0, %entry ], [ %k.next, %pair ]
  %more = icmp slt i64 %k, %count
  br i1 %more, label %pair, label %done
pair:
  %first = shl i64 %k, 1
  %second = or i64 %first, 1
  %which = call i64 @number(ptr %pairs, i64 %first)
  %source = call i64 @number(ptr %pairs, i64 %second)
  %base = call i64 @number(ptr %call, i64 %source)
  %at = getelementptr i64, ptr %frames, i64 %which
  %offset = load i64, ptr %at
  %address = add i64 %offset, %base
  store i64 %address, ptr %at
  %k.next = add i64 %k, 1
  br label %next
done:
  ret void
}}

define internal void @share(ptr %call, i64 %thread, i64 %threads) {{
entry:
  %about = load ptr, ptr %call
  %frames = call ptr @frames(ptr %call)
  %stages.at = call i64 @number(ptr %about, i64 {STAGES})
  %stages = inttoptr i64 %stages.at to ptr
  %count = call i64 @number(ptr %about, i64 {STAGE_COUNT})
  %several = icmp sgt i64 %threads, 1
  br label %next
next:
  %k = phi i64 [ 0, %entry ], [ %k.next, %after ]
  %more = icmp slt i64 %k, %count
  br i1 %more, label %begin, label %done
begin:
  %at = shl i64 %k, 2
  %stage = getelementptr i64, ptr %stages, i64 %at
  %waits = call i64 @number(ptr %stage, i64 {WAITS})
  %wanted = icmp ne i64 %waits, 0
  %meet = and i1 %wanted, %several
  br i1 %meet, label %wait, label %ready
wait:
  call void @gatewise_barrier()
  br label %ready
ready:
  %owner = call i64 @number(ptr %stage, i64 {OWNER})
  %all = icmp slt i64 %owner, 0
  %whose = urem i64 %owner, %threads
  %his = icmp eq i64 %whose, %thread
  %mine = or i1 %all, %his
  br i1 %mine, label %work, label %after
work:
  %code.at = call i64 @number(ptr %stage, i64 {CODE})
  %code = inttoptr i64 %code.at to ptr
  %offset = call i64 @number(ptr %stage, i64 {FRAME})
  %frame = getelementptr i8, ptr %frames, i64 %offset
  %number = select i1 %all, i64 %thread, i64 0
  %team = select i1 %all, i64 %threads, i64 1
  call void %code(ptr %frame, i64 %number, i64 %team)
  br label %after
after:
  %k.next = add i64 %k, 1
  br label %next
done:
  ret void
}}

define internal void @region(ptr %call) {{
  %thread = call i32 @gatewise_thread_num()
  %threads = call i32 @gatewise_num_threads()
  %number = zext i32 %thread to i64
  %count = zext i32 %threads to i64
  call void @share(ptr %call, i64 %number, i64 %count)
  ret void
}}

define void @program(ptr %call) {{
  call void @write_frames(ptr %call)
  %about = load ptr, ptr %call
  %threads = call i64 @number(ptr %about, i64 {THREADS})
  %several = icmp sgt i64 %threads, 1
  br i1 %several, label %many, label %one
many:
  %count = trunc i64 %threads to i32
  call void @gatewise_parallel(ptr @region, ptr %call, i32 %count, i32 0)
  ret void
one:
  call void @share(ptr %call, i64 0, i64 1)
  ret void
}}
"""
"""A module with the entry ``program(call)``."""
