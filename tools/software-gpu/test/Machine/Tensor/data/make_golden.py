import sys, json, struct
sys.path.insert(0,'/tmp/gpu-async/py')
import torch
torch.manual_seed(7)
from mmasim.nv_ptx.sim import MMA, WGMMA
OUT='/work/wt/gpu-async/tools/software-gpu/test/Machine/Tensor/data/'
g=json.load(open(OUT+'golden.json'))
def draw(shape,dt,kind,wide):
    # kind: 0 normal(0,1), 1 wide exponents, 2 all bit patterns, 3 sparse
    if dt==torch.float32 or dt==torch.bfloat16 or dt==torch.float16 or dt in(torch.float8_e4m3fn,torch.float8_e5m2):
        x=torch.randn(shape)
        if kind in(1,3):
            x=x*torch.exp2(torch.randint(-wide,wide+1,shape).float())
        if kind==3: x[torch.rand(shape)<0.6]=0
        x=x.to(dt)
        if kind==2:
            n=x.element_size()
            it={1:torch.int8,2:torch.int16,4:torch.int32}[n]
            lo,hi={1:(-128,128),2:(-32768,32768),4:(-2**31,2**31)}[n]
            m=torch.rand(shape)<0.15
            r=torch.randint(lo,hi,shape,dtype=torch.int64).to(it).view(dt)
            x=torch.where(m,r,x)
        return x
def make(name,op,arch,st,cases=10):
    o=op(arch,st)
    b=b''
    for c in range(cases):
        kind=c%4
        wide={torch.float32:60,torch.bfloat16:60,torch.float16:14,torch.float8_e4m3fn:6,torch.float8_e5m2:14}
        A=draw((o.m,o.k),o.a_type,kind,wide[o.a_type]);B=draw((o.k,o.n),o.b_type,kind,wide[o.b_type])
        C=draw((o.m,o.n),o.c_type,kind,wide[o.c_type])
        if c%5==4: C=torch.zeros_like(C)
        D=o(A,B,C)
        for t in(A,B,C,D):
            b+=bytes(t.contiguous().view(torch.uint8).flatten().tolist())
    open(OUT+name+'.bin','wb').write(b)
    ao=o.arithmetic_op
    g[name]=dict(M=o.m,N=o.n,K=o.k,a=o.a_type_ptx,b=o.b_type_ptx,d={torch.float32:'f32',torch.float16:'f16'}[o.d_type],sm=80 if arch=='Ampere' else 90,unit='wgmma' if op is WGMMA else 'mma',cases=cases)
for arch in('Ampere','Hopper'):
    for st in('m16n8k16.f32.f16.f16.f32','m16n8k16.f16.f16.f16.f16','m16n8k8.f32.tf32.tf32.f32','m16n8k16.f32.bf16.bf16.f32'):
        make(arch.lower()+'_mma_'+'_'.join(st.split('.')[1:3]),MMA,arch,st)
for st in('m64n8k16.f32.f16.f16','m64n8k16.f16.f16.f16','m64n8k8.f32.tf32.tf32','m64n8k16.f32.bf16.bf16','m64n8k32.f32.e4m3.e4m3','m64n8k32.f32.e5m2.e4m3','m64n8k32.f16.e4m3.e5m2','m64n8k32.f16.e5m2.e5m2'):
    make('hopper_wgmma_'+'_'.join(st.split('.')[1:]),WGMMA,'Hopper',st)
for n,d in g.items():
    if 'a' not in d:
        d.clear() if False else None
json.dump(g,open(OUT+'golden.json','w'),indent=1)
