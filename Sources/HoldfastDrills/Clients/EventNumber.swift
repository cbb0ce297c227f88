import HoldfastProtocol
import NIOCore

extension Sighting {
    /// What a drill publishes is `{"n":17}`, some with more beside.
    package static func number(in data: ByteBuffer) -> UInt64? {
        (try? JSONObject(parsing: data))?["n"]?.unsignedInteger
    }
}
