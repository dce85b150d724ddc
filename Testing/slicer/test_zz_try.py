def test_try(widget_factory, grab, process_events):
    import time
    t=time.time()
    for n in ("RegNet","RegNetAVSM"):
        w=widget_factory(n)
        print(n, time.time()-t)
        process_events()
        grab(w, f"/tmp/panel_{n}.png", (480,1000))
