import Foundation

/// The page for people, served from memory.
enum ControlPage {
    /// It may load nothing and be framed by nobody.
    static let answer = ControlAnswer(
        status: 200,
        headers: [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Cache-Control", "no-store"),
            (
                "Content-Security-Policy",
                "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
                    + "frame-ancestors 'none'"
            ),
        ],
        body: Data(PackageResources.control_html))
}
