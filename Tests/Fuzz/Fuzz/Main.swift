#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The binary holds all targets; `HOLDFAST_FUZZ_TARGET` names the one to run.
@_cdecl("LLVMFuzzerInitialize")
public func initialize(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>
) -> CInt {
    let name = getenv("HOLDFAST_FUZZ_TARGET").map { String(cString: $0) } ?? ""
    if name == "list" {
        for target in FuzzTarget.all { print("\(target.name)\t\(target.maxBytes)\t\(target.about)") }
        exit(0)
    }
    guard let target = FuzzTarget.all.first(where: { $0.name == name }) else {
        let names = FuzzTarget.all.map(\.name).joined(separator: ", ")
        print("HOLDFAST_FUZZ_TARGET is \"\(name)\", but must be one of: \(names). See Tests/Fuzz/README.md.")
        exit(2)
    }
    chosen = target
    return 0
}

// Written once, before the first input; libFuzzer has one thread.
private nonisolated(unsafe) var chosen = FuzzTarget.all[0]

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    chosen.run(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
}
