/// Limits of the protocol itself. Those that an operator may change are in the gateway's configuration.
public enum ProtocolLimits {
    /// Longest name of an event, in code points (SocketShark's limit).
    public static let eventName = 40
    /// `data` of a `ping` is cut to this many code points.
    public static let pingData = 128
    /// Longest `id` of a client event, in code points.
    public static let eventID = 64
    /// Version of the protocol that this code speaks.
    public static let version: UInt64 = 1
}
