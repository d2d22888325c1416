"""From stored responses to tables, figures and one HTML page, without the model."""
