"""Print the SQL of the views that join results and jobs: ``python -m docket_procrastinate | psql "$DATABASE_URL"``."""

from pathlib import Path

if __name__ == "__main__":
    print(Path(__file__).with_name("views.sql").read_text(), end="")
