import NIOCore

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

extension ByteBuffer {
    /// Index of the first place at or behind `start` where `needle` stands. The C library's search: the load client must not
    /// be what is measured, and a search over a collection takes it tens of times as long.
    func firstIndex(of needle: [UInt8], from start: Int) -> Int? {
        let offset = start - self.readerIndex
        guard offset >= 0, let first = needle.first else { return nil }
        return self.withUnsafeReadableBytes { bytes -> Int? in
            guard let base = bytes.baseAddress else { return nil }
            var at = offset
            while at + needle.count <= bytes.count {
                guard let found = memchr(base + at, CInt(first), bytes.count - needle.count - at + 1) else {
                    return nil
                }
                at = UnsafeRawPointer(found) - base
                if memcmp(base + at, needle, needle.count) == 0 { return at + self.readerIndex }
                at += 1
            }
            return nil
        }
    }
}
